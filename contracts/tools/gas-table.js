// Tables of the gas tools: on the terminal, and in a document between two markers.
'use strict';

const fs = require('node:fs');

/** 12345 as 12,345. */
exports.grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ',');

/** Rows of text: the first column to the left, the others to the right. */
exports.table = (rows) => {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows.map((row) => {
    const cells = row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])));
    return `${cells.join('  ').trimEnd()}\n`;
  }).join('');
};

/** Takes `--write FILE` out of the arguments; undefined without it. */
exports.documentOf = (args) => {
  const at = args.indexOf('--write');
  if (at === -1) return undefined;
  const [, file] = args.splice(at, 2);
  if (file === undefined) throw new Error('--write needs a file');
  return file;
};

/** Prints `text`, and puts it into the document between <!-- name --> and <!-- /name -->. */
exports.show = (text, name, document) => {
  process.stdout.write(text);
  if (document === undefined) return;
  const [from, to] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
  const old = fs.readFileSync(document, 'utf8');
  const [start, end] = [old.indexOf(from), old.indexOf(to)];
  if (start === -1 || end < start) throw new Error(`${document} lacks the markers of ${name}`);
  fs.writeFileSync(document, `${old.slice(0, start + from.length)}\`\`\`text\n${text}\`\`\`\n${old.slice(end)}`);
};
