// The playground's script on a page of stubs against a running server: `node page_in_node.mjs PAGE URL`; prints what it shows.
import fs from "node:fs";

const [page, base] = [fs.readFileSync(process.argv[2], "utf8"), process.argv[3]];

class Element {
  constructor() {
    Object.assign(this, { children: [], style: {}, value: "", textContent: "", classList: { toggle() {} } });
  }
  append(...more) { this.children.push(...more); }
  replaceChildren(...more) { this.children = more; }
  insertRow() { const row = new Element(); this.append(row); return row; }
  insertCell() { return this.insertRow(); }
}

const elements = Object.fromEntries([...page.matchAll(/id="(\w+)"/g)].map(found => [found[1], new Element()]));
const values = { prompt: "Extract the person: Maria Silva is 34 years old and lives in Porto.", kind: "json_schema",
  temperature: "0.7", max_tokens: "96", colour: "logprob" };
for (const [id, value] of Object.entries(values)) elements[id].value = value;
globalThis.document = { getElementById: id => elements[id], createElement: () => new Element() };
globalThis.DOMParser = class {
  parseFromString(text) { return { head: { querySelectorAll: () => [] }, body: { childNodes: [text] } }; }
};
const ask = globalThis.fetch;
globalThis.fetch = (path, options) => ask(`${base}/${path}`, options);
(0, eval)(page.match(/<script>([\s\S]*?)<\/script>/)[1]);

await elements.run.onclick();
await elements.explain.onclick();
await elements.detect.onclick();
elements.colour.value = "legal_mass";
elements.colour.onchange();
const told = {
  answer: elements.answer.children.map(each => each.textContent).join(""),
  titles: elements.answer.children.map(each => each.title),
  colours: elements.answer.children.map(each => each.style.background),
  fields: elements.fields.children.map(row => row.children.map(cell => cell.textContent)),
  ...Object.fromEntries(["note", "explanation", "verdict"].map(id => [id, elements[id].textContent])),
  picture: String(elements.picture.children[0]),
};
elements.kind.value = "text";
elements.kind.onchange();
elements.max_tokens.value = "0";
await elements.run.onclick();
console.log(JSON.stringify({ ...told, refused: elements.note.textContent }));
