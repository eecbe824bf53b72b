// The wiring table of control-api: the only module. A new noun adds a line to each list.
import { APP_FILTER, APP_GUARD, APP_PIPE } from '@nestjs/core';
import type { DynamicModule, Provider, Type } from '@nestjs/common';
import { AccessController } from './access/access.controller.js';
import { AccessService } from './access/access.service.js';
import { AccountsController } from './accounts/accounts.controller.js';
import { AccountsService } from './accounts/accounts.service.js';
import { ApiKeysController } from './api-keys/api-keys.controller.js';
import { ApiKeysService } from './api-keys/api-keys.service.js';
import { AuditController } from './audit/audit.controller.js';
import { AuditService } from './audit/audit.service.js';
import { AccessTokens } from './auth/access-token.js';
import { AccessTokenStrategy } from './auth/access-token.strategy.js';
import { AuthController } from './auth/auth.controller.js';
import { AuthService } from './auth/auth.service.js';
import { Passwords } from './auth/passwords.js';
import { Proofs } from './auth/proofs.js';
import { SignInFailures } from './auth/sign-in-failures.js';
import { Standings } from './auth/standing.store.js';
import { Context } from './context.js';
import { Database } from './database.js';
import { DevicesController } from './devices/devices.controller.js';
import { DevicesService } from './devices/devices.service.js';
import { EventHub } from './events/event-hub.js';
import { EventsController } from './events/events.controller.js';
import { EnforcementController } from './enforcement/enforcement.controller.js';
import { AccessGuard } from './http/access.guard.js';
import { AllowListGuard } from './http/allow-list.js';
import { OpenApiController } from './http/openapi.controller.js';
import { ProblemFilter } from './http/problem.filter.js';
import { RouteTable, routesOf } from './http/routes.js';
import { StrictArguments } from './http/strict-arguments.js';
import { ValidationPipe } from './http/validation.pipe.js';
import { interceptMutations } from './idempotency/idempotency.interceptor.js';
import { InvitationsController } from './invitations/invitations.controller.js';
import { InvitationsService } from './invitations/invitations.service.js';
import { JoinTokensController } from './join-tokens/join-tokens.controller.js';
import { JoinTokensService } from './join-tokens/join-tokens.service.js';
import { GateMemory } from './limits/gate-memory.js';
import { Limiter } from './limits/limiter.js';
import { RequestLimits } from './limits/request-limits.js';
import { SharedBuckets } from './limits/shared-buckets.js';
import { SignInGate } from './limits/sign-in-gate.js';
import { TenantLimits } from './limits/tenant-limit.store.js';
import { LocalNode } from './local-node/local-node.js';
import { MachineTokensController } from './machine-tokens/machine-tokens.controller.js';
import { MachineTokensService } from './machine-tokens/machine-tokens.service.js';
import { MembersController } from './members/members.controller.js';
import { MembersService } from './members/members.service.js';
import { NodeGroupsController } from './node-groups/node-groups.controller.js';
import { NodeGroupsService } from './node-groups/node-groups.service.js';
import { NodeLifeService } from './nodes/node-life.service.js';
import { NodesController } from './nodes/nodes.controller.js';
import { NodesService } from './nodes/nodes.service.js';
import { SchedulerClient } from './nodes/scheduler.client.js';
import { Notifications } from './notifications.js';
import { IdentityProvidersController } from './oidc/identity-providers.controller.js';
import { IdentityProvidersService } from './oidc/identity-providers.service.js';
import { OidcController } from './oidc/oidc.controller.js';
import { OidcService } from './oidc/oidc.service.js';
import { PasskeysController } from './passkeys/passkeys.controller.js';
import { PasskeysService } from './passkeys/passkeys.service.js';
import { PasswordController } from './password/password.controller.js';
import { PasswordService } from './password/password.service.js';
import { QuarantineController } from './quarantine/quarantine.controller.js';
import { PlansController } from './plans/plans.controller.js';
import { PlansService } from './plans/plans.service.js';
import { SessionsController } from './sessions/sessions.controller.js';
import { SessionsService } from './sessions/sessions.service.js';
import { SettingsController } from './settings/settings.controller.js';
import { SettingsService } from './settings/settings.service.js';
import { RedisLink } from './redis.js';
import { SetupController } from './setup/setup.controller.js';
import { SetupService } from './setup/setup.service.js';
import { JwksController } from './signing-keys/jwks.controller.js';
import { KeyRing } from './signing-keys/key-ring.js';
import { SigningKeysController } from './signing-keys/signing-keys.controller.js';
import { SigningKeys } from './signing-keys/signing-keys.service.js';
import { ActsController } from './subscriptions/acts.controller.js';
import { ActsService } from './subscriptions/acts.service.js';
import { BulkController } from './subscriptions/bulk.controller.js';
import { BulkService } from './subscriptions/bulk.service.js';
import { SubscriptionsController } from './subscriptions/subscriptions.controller.js';
import { SubscriptionsService } from './subscriptions/subscriptions.service.js';
import { OwnTenantController, TenantsController } from './tenants/tenants.controller.js';
import { TenantsService } from './tenants/tenants.service.js';
import { SecondFactor } from './totp/second-factor.js';
import { TotpController } from './totp/totp.controller.js';
import { TotpService } from './totp/totp.service.js';
import { WebhooksController } from './webhooks/webhooks.controller.js';
import { WebhooksService } from './webhooks/webhooks.service.js';
import { StatementsController } from './statements/statements.controller.js';
import { StatementsService } from './statements/statements.service.js';
import { UsageService } from './usage/series.service.js';
import { UsageController } from './usage/usage.controller.js';

export const controllers: Type[] = [
  OpenApiController,
  SetupController,
  AuthController,
  PasswordController,
  SessionsController,
  TotpController,
  AccountsController,
  PasskeysController,
  TenantsController,
  OwnTenantController,
  MembersController,
  InvitationsController,
  SettingsController,
  AuditController,
  PlansController,
  NodeGroupsController,
  NodesController,
  JoinTokensController,
  QuarantineController,
  BulkController,
  SubscriptionsController,
  ActsController,
  DevicesController,
  AccessController,
  UsageController,
  StatementsController,
  EnforcementController,
  EventsController,
  WebhooksController,
  SigningKeysController,
  ApiKeysController,
  MachineTokensController,
  IdentityProvidersController,
  OidcController,
  JwksController,
];

const services: Type[] = [
  Database,
  Notifications,
  KeyRing,
  SigningKeys,
  ApiKeysService,
  MachineTokensService,
  IdentityProvidersService,
  OidcService,
  AccessTokens,
  AccessTokenStrategy,
  Standings,
  Passwords,
  RedisLink,
  Limiter,
  SharedBuckets,
  TenantLimits,
  RequestLimits,
  GateMemory,
  SignInGate,
  AuthService,
  SecondFactor,
  SignInFailures,
  Proofs,
  PasswordService,
  SessionsService,
  TotpService,
  PasskeysService,
  AccountsService,
  SetupService,
  TenantsService,
  MembersService,
  InvitationsService,
  SettingsService,
  AuditService,
  NodeGroupsService,
  NodesService,
  NodeLifeService,
  SchedulerClient,
  JoinTokensService,
  LocalNode,
  PlansService,
  SubscriptionsService,
  ActsService,
  BulkService,
  DevicesService,
  AccessService,
  EventHub,
  WebhooksService,
  UsageService,
  StatementsService,
  AccessGuard,
];

export class AppModule {
  /** `routed` is the list above, except in tests. Throws for a route that declares no permission. */
  static with(context: Context, routed: Type[] = controllers): DynamicModule {
    interceptMutations(routed);
    const providers: Provider[] = [
      { provide: Context, useValue: context },
      { provide: RouteTable, useValue: new RouteTable(routesOf(routed)) },
      { provide: APP_GUARD, useExisting: AccessGuard },
      { provide: APP_GUARD, useExisting: RequestLimits },
      { provide: APP_GUARD, useClass: AllowListGuard },
      { provide: APP_GUARD, useClass: StrictArguments },
      { provide: APP_PIPE, useClass: ValidationPipe },
      { provide: APP_FILTER, useClass: ProblemFilter },
      ...services,
    ];
    return { module: AppModule, controllers: routed, providers };
  }
}
