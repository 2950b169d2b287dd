// Its own file, so that the bundle holds these three of them and loads them when a question is asked.
export { confirm, password, text } from '@clack/prompts'
