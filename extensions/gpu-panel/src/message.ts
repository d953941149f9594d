/**
 * Stream message: its types, and a check of received JSON against them.
 *
 * An unknown value is `null`; names carry units. `tests/contract/panel-message.json` is the sample.
 */

export type GpuHealth = 'ok' | 'lost' | 'unknown';

/** One GPU or MIG instance at one moment; `index` counts the devices of this server from 0. */
export interface GpuReading {
  uuid: string | null;
  index: number;
  name: string | null;
  health: GpuHealth;
  simulated: boolean;
  memory_used_bytes: number | null;
  memory_total_bytes: number | null;
  temperature_celsius: number | null;
  utilization_percent: number | null;
  power_watts: number | null;
  power_limit_watts: number | null;
}

/** One GPU's history: columns of equal length, oldest first. */
export interface GpuHistory {
  uuid: string;
  sampled_at: number[];
  memory_used_bytes: (number | null)[];
  temperature_celsius: (number | null)[];
  utilization_percent: (number | null)[];
}

/**
 * The lease of this server, as the hub describes it.
 *
 * - `seconds_left`: `null` for a lease without an end, below 0 once it has expired.
 * - `max_hours`: the longest duration from now, `null` without a bound.
 * - `trouble`: a sentence for the user when a GPU has failed.
 * - `idle_seconds_left`: until the release of its unused GPUs, `null` unless a release is due.
 * - `gpus_given_back`: the number of GPUs that an idle release took, `null` without one.
 * - `home_size_bytes`, `home_quota_bytes`: the size of the home and its bound, `null` without a quota.
 * - `confirmed`: false while the hub does not answer; the lease is then the last known one.
 */
export interface LeaseReading {
  state: string | null;
  gpu_count: number;
  seconds_left: number | null;
  max_hours: number | null;
  trouble: string | null;
  idle_seconds_left: number | null;
  gpus_given_back: number | null;
  confirmed: boolean;
  home_size_bytes: number | null;
  home_quota_bytes: number | null;
}

/** CPU, memory and disk of this server; `cpu_cores` is 1 for one busy core, and a limit of `null` is none or unknown. */
export interface ServerReading {
  cpu_cores: number | null;
  cpu_cores_limit: number | null;
  memory_used_bytes: number | null;
  memory_limit_bytes: number | null;
  disk_used_bytes: number | null;
  disk_total_bytes: number | null;
}

/** `sampled_at` is in seconds since the Unix epoch; only the first message has a `history`; without a hub `lease` is `null`. */
export interface PanelMessage {
  schema: 6;
  sampled_at: number;
  period_seconds: number;
  error: string | null;
  gpus: GpuReading[];
  history: GpuHistory[];
  lease: LeaseReading | null;
  server: ServerReading;
  /** Sentences about ignored parts of the home, and about processes that ended for memory. */
  notices: string[];
}

type Check = (value: unknown) => boolean;

const isNumber: Check = value => typeof value === 'number' && Number.isFinite(value);
const isString: Check = value => typeof value === 'string';
const isBoolean: Check = value => typeof value === 'boolean';
const orNull =
  (check: Check): Check =>
  value =>
    value === null || check(value);
const arrayOf =
  (check: Check): Check =>
  value =>
    Array.isArray(value) && value.every(check);

const GPU_CHECKS: Record<keyof GpuReading, Check> = {
  uuid: orNull(isString),
  index: isNumber,
  name: orNull(isString),
  health: value => value === 'ok' || value === 'lost' || value === 'unknown',
  simulated: isBoolean,
  memory_used_bytes: orNull(isNumber),
  memory_total_bytes: orNull(isNumber),
  temperature_celsius: orNull(isNumber),
  utilization_percent: orNull(isNumber),
  power_watts: orNull(isNumber),
  power_limit_watts: orNull(isNumber)
};

const HISTORY_CHECKS: Record<keyof GpuHistory, Check> = {
  uuid: isString,
  sampled_at: arrayOf(isNumber),
  memory_used_bytes: arrayOf(orNull(isNumber)),
  temperature_celsius: arrayOf(orNull(isNumber)),
  utilization_percent: arrayOf(orNull(isNumber))
};

const LEASE_CHECKS: Record<keyof LeaseReading, Check> = {
  state: orNull(isString),
  gpu_count: isNumber,
  seconds_left: orNull(isNumber),
  max_hours: orNull(isNumber),
  trouble: orNull(isString),
  idle_seconds_left: orNull(isNumber),
  gpus_given_back: orNull(isNumber),
  confirmed: isBoolean,
  home_size_bytes: orNull(isNumber),
  home_quota_bytes: orNull(isNumber)
};

const SERVER_CHECKS: Record<keyof ServerReading, Check> = {
  cpu_cores: orNull(isNumber),
  cpu_cores_limit: orNull(isNumber),
  memory_used_bytes: orNull(isNumber),
  memory_limit_bytes: orNull(isNumber),
  disk_used_bytes: orNull(isNumber),
  disk_total_bytes: orNull(isNumber)
};

const MESSAGE_CHECKS: Record<keyof PanelMessage, Check> = {
  schema: value => value === 6,
  sampled_at: isNumber,
  period_seconds: value => isNumber(value) && (value as number) > 0,
  error: orNull(isString),
  gpus: arrayOf(value => firstWrongKey(value, GPU_CHECKS) === null),
  history: arrayOf(
    value => firstWrongKey(value, HISTORY_CHECKS) === null && hasEqualColumns(value)
  ),
  lease: orNull(isLease),
  server: value => firstWrongKey(value, SERVER_CHECKS) === null,
  notices: arrayOf(isString)
};

/** Return whether `value` is a lease in the server's form. */
export function isLease(value: unknown): value is LeaseReading {
  return firstWrongKey(value, LEASE_CHECKS) === null;
}

/** Return the message in `text`; throws an `Error` that names the wrong key. */
export function parseMessage(text: string): PanelMessage {
  const value: unknown = JSON.parse(text);
  const wrong = firstWrongKey(value, MESSAGE_CHECKS);
  if (wrong !== null) {
    throw new Error(`"${wrong}" is missing or has a wrong type`);
  }
  return value as PanelMessage;
}

function firstWrongKey(value: unknown, checks: Record<string, Check>): string | null {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const wrong = Object.entries(checks).find(([key, check]) => !check(record[key]));
  return wrong ? wrong[0] : null;
}

function hasEqualColumns(value: unknown): boolean {
  const { uuid: _, ...columns } = value as GpuHistory;
  return Object.values(columns).every(column => column.length === columns.sampled_at.length);
}
