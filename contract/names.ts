/** Names a person types. Each rule is a pattern, a sentence for the person who broke it, and a bound. */
export type NameRule = { pattern: RegExp; lengthMax: number; says: string }

// "--" is kept out of both names because a VPC's Kubernetes namespace is `<organization>--<vpc>`: so the pair can be read back from
// it, and no two pairs share one. 30 + 2 + 30 stays within the 63 characters of a namespace.
const dnsLabel = /^[a-z](?:-?[a-z0-9])*$/

export const nameRules = {
  organization: {
    pattern: dnsLabel,
    lengthMax: 30,
    says: 'at most 30 lower-case letters, digits and single dashes, starting with a letter: acme, acme-eu',
  },
  vpc: {
    pattern: dnsLabel,
    lengthMax: 30,
    says: 'at most 30 lower-case letters, digits and single dashes, starting with a letter: default, staging-2',
  },
  app: {
    pattern: dnsLabel,
    lengthMax: 40,
    says: 'at most 40 lower-case letters, digits and single dashes, starting with a letter: api, web-2',
  },
  token: {
    // Printable, so that a name can be shown in a table or a terminal as it is.
    pattern: /^[^\p{C}\s](?:[^\p{C}\p{Zl}\p{Zp}]*[^\p{C}\s])?$/u,
    lengthMax: 64,
    says: 'at most 64 printable characters without a space at either end',
  },
  tokenTag: { pattern: /^[a-z0-9]+$/, lengthMax: 16, says: 'at most 16 lower-case letters and digits: prod, dev' },
} as const satisfies Record<string, NameRule>

export const namespaceOf = (organization: string, vpc: string) => `${organization}--${vpc}`

export const matches = (rule: NameRule, name: string) => name.length <= rule.lengthMax && rule.pattern.test(name)
