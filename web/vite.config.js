import {defineConfig} from 'vite'

export default defineConfig({
  base: '/dashboard/',
  esbuild: {jsx: 'automatic', jsxImportSource: 'preact'},
  build: {
    outDir: '../app/leaderboard/api/dashboard',
    emptyOutDir: true,
    target: 'es2022',
    // The Content-Security-Policy allows no data: scripts or styles, and one small file of each is what there is.
    assetsInlineLimit: 0,
    modulePreload: {polyfill: false},
  },
})
