import { appDelete, appList, appView } from './apps/apps.ts'
import { appRedeploy, appRollback, deploy, releaseList } from './apps/deploy.ts'
import { effectiveEnv, envPatch, envView } from './apps/env.ts'
import { rolloutList, rolloutView, waveAbort, waveResume, waveView } from './apps/rollouts.ts'
import { adminAuditList, adminAuditVerify, auditList, auditVerify } from './audit/audit.ts'
import { appLogs } from './delivery/logs.ts'
import { eventStream } from './events.ts'
import type { Implementation } from './http/mount.ts'
import { meView } from './identity/me.ts'
import { memberDelete, memberInvite, memberList, memberPatch } from './identity/members.ts'
import {
  organizationCreate,
  organizationDelete,
  organizationList,
  organizationPatch,
  organizationView,
} from './identity/organizations.ts'
import { sessionList, sessionRevoke, sessionRevokeAll } from './identity/sessions.ts'
import { invitationAccept, passwordChange, sessionCreate, sessionEnd, sessionSwitch } from './identity/sign-in.ts'
import { tokenCreate, tokenDelete, tokenList, tokenPatch, tokenRotate, tokenView } from './identity/tokens.ts'
import { vpcCreate, vpcDelete, vpcList, vpcPatch, vpcView } from './identity/vpcs.ts'
import { keysRotate, keysView } from './keys/data-key-rotation.ts'
import { masterProve, masterRotate } from './keys/master-rotation.ts'
import { seal, sealView, unseal } from './keys/seal.ts'
import { secretDiff, secretVerify } from './secrets/compare.ts'
import {
  secretDelete,
  secretDeploy,
  secretList,
  secretPatch,
  secretPut,
  secretRestore,
  secretUsage,
  secretView,
} from './secrets/secrets.ts'
import { secretVersionList } from './secrets/versions.ts'

/** The whole API: a route of the contract that is missing here, or one too many, does not compile. */
export const implementation: Implementation = {
  sessionCreate,
  sessionSwitch,
  sessionEnd,
  meView,
  invitationAccept,
  passwordChange,
  tokenList,
  tokenCreate,
  tokenView,
  tokenPatch,
  tokenDelete,
  tokenRotate,
  sessionList,
  sessionRevokeAll,
  sessionRevoke,
  organizationList,
  organizationCreate,
  organizationView,
  organizationPatch,
  organizationDelete,
  memberList,
  memberInvite,
  memberPatch,
  memberDelete,
  appLogs,
  eventStream,
  deploy,
  appList,
  appView,
  appDelete,
  releaseList,
  appRollback,
  appRedeploy,
  envView,
  envPatch,
  effectiveEnv,
  rolloutList,
  rolloutView,
  waveView,
  waveResume,
  waveAbort,
  secretDeploy,
  vpcList,
  vpcCreate,
  vpcView,
  vpcPatch,
  vpcDelete,
  secretList,
  secretPut,
  secretView,
  secretPatch,
  secretDelete,
  secretVersionList,
  secretRestore,
  secretVerify,
  secretDiff,
  secretUsage,
  sealView,
  seal,
  unseal,
  masterRotate,
  masterProve,
  keysView,
  keysRotate,
  auditList,
  auditVerify,
  adminAuditList,
  adminAuditVerify,
}
