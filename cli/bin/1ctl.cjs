#!/usr/bin/env node
const { existsSync } = require('node:fs')

const bundle = `${__dirname}/../dist/1ctl.cjs`
if (existsSync(bundle)) require(bundle)
else {
  console.error('1ctl is not built yet: run `npm run build` in the checkout.')
  process.exit(1)
}
