// Takes the version from CMakeLists.txt of the project into package.json and src/version.ts.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const here = new URL('..', import.meta.url);
const project = new URL('../../CMakeLists.txt', here);
// A copy of the package without the project keeps the version that it has.
if (existsSync(project)) {
  const version = /^project\(\S+ VERSION (\d+\.\d+\.\d+)/m.exec(readFileSync(project, 'utf8'))?.[1];
  if (version === undefined) throw new Error(`${project.pathname} has no version`);
  const file = new URL('package.json', here);
  const text = readFileSync(file, 'utf8');
  const updated = text.replace(/"version": "[^"]*"/, `"version": "${version}"`);
  if (updated !== text) writeFileSync(file, updated);
}
const { version } = JSON.parse(readFileSync(new URL('package.json', here), 'utf8'));
writeFileSync(
  new URL('src/version.ts', here),
  `// Written by scripts/version.js.\nexport const VERSION = '${version}';\n`,
);
