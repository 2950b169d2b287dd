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
  service: {
    // `<app>--<service>` names what belongs to it in Kubernetes, which takes 63 characters.
    pattern: dnsLabel,
    lengthMax: 20,
    says: 'at most 20 lower-case letters, digits and single dashes, starting with a letter: web, worker-2',
  },
  variable: {
    pattern: /^[A-Za-z_][A-Za-z0-9_]*$/,
    lengthMax: 128,
    says: 'at most 128 letters, digits and underscores, not starting with a digit: LOG_LEVEL',
  },
  secret: {
    pattern: dnsLabel,
    lengthMax: 63,
    says: 'at most 63 lower-case letters, digits and single dashes, starting with a letter: db-creds',
  },
  secretKey: {
    // What Kubernetes takes as a key of a Secret. Injected as a variable it must also be an environment name, see isEnvName.
    pattern: /^(?!\.{1,2}$)(?!\.\.)[-._A-Za-z0-9]+$/,
    lengthMax: 128,
    says: 'at most 128 letters, digits, underscores, dots and dashes: DATABASE_URL, tls.crt',
  },
  token: {
    // Printable, so that a name can be shown in a table or a terminal as it is.
    pattern: /^[^\p{C}\s](?:[^\p{C}\p{Zl}\p{Zp}]*[^\p{C}\s])?$/u,
    lengthMax: 64,
    says: 'at most 64 printable characters without a space at either end',
  },
  tokenTag: { pattern: /^[a-z0-9]+$/, lengthMax: 16, says: 'at most 16 lower-case letters and digits: prod, dev' },
} as const satisfies Record<string, NameRule>

/** The bag that `secret create` makes for an app when no name is given: always the same, so that repeating it updates. */
export const labelOfApp = (app: string) => `${app}-secrets`

export const namespaceOf = (organization: string, vpc: string) => `${organization}--${vpc}`

export const matches = (rule: NameRule, name: string) => name.length <= rule.lengthMax && rule.pattern.test(name)

/** Whether a key can be an environment variable; others can be mounted as files or linked under another name. */
export const isEnvName = (key: string) => nameRules.variable.pattern.test(key)

/** Names that a shell, Kubernetes or 1ctl itself gives to every process. */
export const isReservedEnvName = (key: string) => /^(?:PATH|HOME|HOSTNAME|KUBERNETES_.*|SATUSKY_.*)$/.test(key)
