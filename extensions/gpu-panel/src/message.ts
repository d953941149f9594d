/**
 * The one message of the stream: its types and the check that what arrived has them.
 *
 * Unknown is `null`, units stand in the names; `tests/contract/panel-message.json` is the sample.
 */

export type GpuHealth = 'ok' | 'lost' | 'unknown';

/** One GPU or MIG instance at one moment; `index` counts what this server sees, from 0. */
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

/** One GPU's past: equally long columns, oldest first. */
export interface GpuHistory {
  uuid: string;
  sampled_at: number[];
  memory_used_bytes: (number | null)[];
  temperature_celsius: (number | null)[];
  utilization_percent: (number | null)[];
}

/**
 * What the hub says of this server's lease.
 *
 * `seconds_left` is `null` for one without an end and below 0 once its time is over; no lease lasts longer than
 * `most_hours` from now; `trouble` is a sentence when a GPU has failed; `idle_seconds_left` is until its GPUs are given
 * back because nothing uses them, `null` unless that is soon; `gpus_given_back` is how many it had for which that came,
 * `null` where it did not; a lease that is not `confirmed` is as it was last known.
 */
export interface LeaseReading {
  state: string | null;
  gpu_count: number;
  seconds_left: number | null;
  most_hours: number | null;
  trouble: string | null;
  idle_seconds_left: number | null;
  gpus_given_back: number | null;
  confirmed: boolean;
}

/** `sampled_at` is in seconds since the Unix epoch; `history` is empty after the first message, `lease` is `null` outside a hub. */
export interface PanelMessage {
  schema: 4;
  sampled_at: number;
  period_seconds: number;
  error: string | null;
  gpus: GpuReading[];
  history: GpuHistory[];
  lease: LeaseReading | null;
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
  most_hours: orNull(isNumber),
  trouble: orNull(isString),
  idle_seconds_left: orNull(isNumber),
  gpus_given_back: orNull(isNumber),
  confirmed: isBoolean
};

const MESSAGE_CHECKS: Record<keyof PanelMessage, Check> = {
  schema: value => value === 4,
  sampled_at: isNumber,
  period_seconds: value => isNumber(value) && (value as number) > 0,
  error: orNull(isString),
  gpus: arrayOf(value => firstWrongKey(value, GPU_CHECKS) === null),
  history: arrayOf(value => firstWrongKey(value, HISTORY_CHECKS) === null && isEven(value)),
  lease: orNull(isLease)
};

/** Return whether `value` is a lease as the server tells it. */
export function isLease(value: unknown): value is LeaseReading {
  return firstWrongKey(value, LEASE_CHECKS) === null;
}

/** Return the message in `text`; throws an `Error` that names what is wrong with it. */
export function parseMessage(text: string): PanelMessage {
  const value: unknown = JSON.parse(text);
  const wrong = firstWrongKey(value, MESSAGE_CHECKS);
  if (wrong !== null) {
    throw new Error(`"${wrong}" is missing or not what it should be`);
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

function isEven(value: unknown): boolean {
  const { uuid: _, ...columns } = value as GpuHistory;
  return Object.values(columns).every(column => column.length === columns.sampled_at.length);
}
