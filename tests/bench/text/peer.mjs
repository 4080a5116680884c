// The other side of run.py: the same work as tokenizer_bench and template_bench, by node-llama-cpp and @huggingface/jinja.
//   node peer.mjs tokenizer MODEL TEXT SECONDS       node peer.mjs template TEMPLATE INPUT SECONDS
// Runs in a folder whose node_modules has both packages.
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const load = (name) => import(pathToFileURL(createRequire(process.cwd() + "/").resolve(name)));
const [what, first, second, seconds] = process.argv.slice(2);

// CPU seconds, those of the runtime's helper threads included.
const cpuSeconds = () => { const {user, system} = process.cpuUsage(); return (user + system) / 1e6; };

function bestOf(work) {
  let best = Infinity;
  for (const start = cpuSeconds(); cpuSeconds() - start < seconds;) {
    const begin = cpuSeconds();
    work();
    best = Math.min(best, cpuSeconds() - begin);
  }
  return best;
}

// After as much time to warm up.
function meanOf(work) {
  for (const start = cpuSeconds(); cpuSeconds() - start < seconds;) work();
  const start = cpuSeconds();
  let calls = 0;
  do {
    for (let i = 0; i < 50; ++i, ++calls) work();
  } while (cpuSeconds() - start < seconds);
  return (cpuSeconds() - start) / calls;
}

if (what === "tokenizer") {
  const {getLlama, LlamaLogLevel} = await load("node-llama-cpp");
  const llama = await getLlama({gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error});
  const model = await llama.loadModel({modelPath: first, vocabOnly: true});
  const text = readFileSync(second, "utf8");
  const bytes = Buffer.byteLength(text);
  let ids, decoded;
  const encode = bestOf(() => { ids = model.tokenize(text, false); });
  const decode = bestOf(() => { decoded = model.detokenize(ids); });
  let checksum = 0;
  for (const id of ids) checksum = (checksum * 31 + id) % 1000000007;
  console.log(JSON.stringify({encode_bytes_per_s: bytes / encode, decode_bytes_per_s: bytes / decode, ids: ids.length, checksum}));
  process.exit(0);
} else {
  const {Template} = await load("@huggingface/jinja");
  const source = readFileSync(first, "utf8");
  const input = JSON.parse(readFileSync(second, "utf8"));
  // The package's own strftime_now prints the time of the reference.
  const Clock = Date;
  globalThis.Date = class extends Clock {
    constructor(...given) { given.length > 0 ? super(...given) : super(2024, 6, 26, 12, 0, 0); }
  };
  const result = {};
  try {
    result.parse_s = meanOf(() => new Template(source));
    const template = new Template(source);
    result.render_s = meanOf(() => { result.text = template.render(input); });
  } catch (error) {
    result.error = String(error.message);
  }
  console.log(JSON.stringify(result));
}
