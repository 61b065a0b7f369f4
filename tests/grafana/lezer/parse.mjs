// Reads [[language, query], ...] as JSON and writes, for each, what the language's own grammar could not read.
import { readFileSync } from 'node:fs';
import { parser as logql } from '@grafana/lezer-logql';
import { parser as traceql } from '@grafana/lezer-traceql';

const parsers = { loki: logql, tempo: traceql };
const wrong = JSON.parse(readFileSync(0, 'utf8')).map(([language, query]) => {
  const errors = [];
  parsers[language].parse(query).iterate({
    enter: (node) => { if (node.type.isError) errors.push(`at ${node.from}: ${query.slice(node.from)}`); },
  });
  return errors;
});
process.stdout.write(JSON.stringify(wrong));
