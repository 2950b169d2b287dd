import tailwindcss from '@tailwindcss/vite'
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'
// @ts-expect-error plain JavaScript without types, as all of tools/ is
import { contractTableVite } from '../tools/contract-table.mjs'

export default defineConfig({
  root: import.meta.dirname,
  plugins: [contractTableVite(), react(), tailwindcss()],
  build: {
    // The first that know light-dark(), which every color of tokens.css is written with.
    target: ['chrome123', 'edge123', 'firefox120', 'safari17.5'],
    // Every browser of that list preloads modules by itself.
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/v1': 'http://127.0.0.1:7117' } },
})
