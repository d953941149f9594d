/** Lease format: the sentences about a lease on screen; a notification shows at most 140 characters. */
import { formatDuration, formatMoment } from './format';
import { LeaseModel } from './lease';

export interface Countdown {
  /** For the panel: "2 h 14 min left". */
  left: string;
  /** For the panel: "until 16:44", with "(not confirmed)" while the hub does not answer. */
  until: string;
  /** For the status bar: "GPU lease: 2 h 14 min". */
  status: string;
}

/** Return the countdown at `now`; `null` for a lease without an end. */
export function formatCountdown(lease: LeaseModel, now: Date): Countdown | null {
  const seconds = lease.seconds_left;
  if (seconds === null) {
    return null;
  }
  if (seconds <= 0) {
    return { left: 'ended', until: 'Your server stops now.', status: 'GPU lease: ended' };
  }
  const duration = formatDuration(seconds);
  const doubt = lease.reading?.confirmed === true ? '' : ' (not confirmed)';
  return {
    left: `${duration} left`,
    until: `until ${formatEnd(seconds, now)}${doubt}`,
    status: `GPU lease: ${duration}${doubt}`
  };
}

/** Return the warning for a lease with `seconds` left, below `threshold_seconds`; it stays true until the end. */
export function formatWarning(threshold_seconds: number, seconds: number, now: Date): string {
  return (
    `Your GPU lease ends at ${formatEnd(seconds, now)}, in less than ${threshold_seconds / 60} min: ` +
    'your server then stops. Open documents are saved shortly before.'
  );
}

/** Return the panel's sentence about the release of unused GPUs. */
export function formatIdle(seconds: number): string {
  const when = seconds > 0 ? `in ${formatDuration(seconds)}` : 'now';
  return `Nothing uses your GPUs: they are given back ${when}.`;
}

/** Return the warning about the release of unused GPUs; it stays true until the release. */
export function formatIdleWarning(seconds: number, now: Date): string {
  return (
    `Nothing uses your GPUs. They are given back at ${formatEnd(seconds, now)}, ` +
    'unless something computes or you are still here.'
  );
}

export function formatExtension(seconds: number, now: Date): string {
  return `Your GPU lease now ends at ${formatEnd(seconds, now)}, in ${formatDuration(seconds)}.`;
}

export const ENDED = {
  title: 'Your GPU lease has ended',
  body:
    'This server stops and its GPUs are given back. ' +
    'Your files are kept: start a server again from the hub.'
};

export const GPUS_GIVEN_BACK = {
  title: 'Your GPUs were given back',
  body:
    'Nothing used them, so this server stops. If you chose so, it restarts without GPUs in a moment. ' +
    'Your files are kept.'
};

export const WITHOUT_GPUS =
  'Nothing used your GPUs, so they were given back. This server was restarted without GPUs.';

export const STILL_HERE = "I'm still here";

export const CANNOT_EXTEND = 'Your lease has its longest duration now: extend it later.';

function formatEnd(seconds: number, now: Date): string {
  return formatMoment(new Date(now.getTime() + 1000 * seconds), now);
}
