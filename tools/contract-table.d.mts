import type { Plugin as EsbuildPlugin } from 'esbuild'
import type { Plugin as VitePlugin } from 'vite'

export declare function contractTableEsbuild(): EsbuildPlugin
export declare function contractTableVite(): VitePlugin
