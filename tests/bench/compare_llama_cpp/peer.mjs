// The other side of run.py: llama.cpp by node-llama-cpp.   node peer.mjs MODEL THREADS PREFILL DECODE ROUNDS
// Runs in a folder whose node_modules has the package. Prints one line of JSON: medians in tokens per second.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const {getLlama, LlamaLogLevel} = await import(pathToFileURL(createRequire(process.cwd() + "/").resolve("node-llama-cpp")));
const [modelPath, ...numbers] = process.argv.slice(2);
const [threads, prefill, decode, rounds] = numbers.map(Number);

const llama = await getLlama({gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error});
const begin = performance.now();
const model = await llama.loadModel({modelPath});
const load = (performance.now() - begin) / 1e3;
const context = await model.createContext({contextSize: Math.max(prefill, 64 + decode) + 64, batchSize: Math.max(prefill, 64), threads: {ideal: threads, min: threads}});
const sequence = context.getSequence();
const ids = Array.from({length: prefill}, (_, i) => (i * 37) % 500 + 3);

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const clear = () => sequence.eraseContextTokenRanges([{start: 0, end: sequence.nextTokenIndex}]);
const seconds = async (work) => { const start = performance.now(); await work(); return (performance.now() - start) / 1e3; };

const times = {prefill: [], decode: []};
for (let round = 0; round < rounds; ++round) {
  if (prefill > 0) {
    await clear();
    times.prefill.push(await seconds(() => sequence.evaluateWithoutGeneratingNewTokens(ids)));
  }
  await clear();
  await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, 16));
  const tokens = sequence.evaluate([5], {temperature: 0, yieldEogToken: true});
  await tokens.next();  // with it begins the pace of one token after the other
  times.decode.push(await seconds(async () => { for (let i = 0; i < decode; ++i) await tokens.next(); }));
  await tokens.return();
}
console.log(JSON.stringify({load_s: load, threads: context.currentThreads, prefill: prefill > 0 ? prefill / median(times.prefill) : null, decode: decode / median(times.decode)}));
process.exit(0);
