"""Runs one test class of test_*.py: `run_case.py NAME`. Exit status 77 if every test in it was skipped."""

import pathlib
import sys
import unittest

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here))


def main():
    suite = unittest.TestSuite()
    for module in sorted(here.glob("test_*.py")):
        for group in unittest.defaultTestLoader.loadTestsFromName(module.stem):
            for test in group:
                if type(test).__name__ == sys.argv[1]:
                    suite.addTest(test)
    if suite.countTestCases() == 0:
        sys.exit(f"no test class named {sys.argv[1]}")
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        sys.exit(1)
    if len(result.skipped) == result.testsRun:
        sys.exit(77)


main()
