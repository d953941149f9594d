/** What people read about their lease; a notification shows no more than 140 characters. */
import { formatDuration, formatMoment } from './format';
import { LeaseModel } from './lease';

export interface Countdown {
  /** For the panel: "2 h 14 min left". */
  left: string;
  /** For the panel: "until 16:44", and whether that is certain. */
  until: string;
  /** For the status bar: "GPU lease: 2 h 14 min". */
  status: string;
}

/** Return the countdown as it is at `now`; `null` where there is nothing to count. */
export function sayCountdown(lease: LeaseModel, now: Date): Countdown | null {
  const seconds = lease.seconds_left;
  if (seconds === null) {
    return null;
  }
  if (seconds <= 0) {
    return { left: 'over', until: 'Your server is stopped now.', status: 'GPU lease: over' };
  }
  const duration = formatDuration(seconds);
  const doubt = lease.reading?.confirmed === true ? '' : ' (not confirmed)';
  return {
    left: `${duration} left`,
    until: `until ${sayMoment(seconds, now)}${doubt}`,
    status: `GPU lease: ${duration}${doubt}`
  };
}

/** Return the warning when less than `threshold_seconds` of the `seconds` are left: true until the end. */
export function sayWarning(threshold_seconds: number, seconds: number, now: Date): string {
  return (
    `Your GPU lease ends at ${sayMoment(seconds, now)}, in less than ${threshold_seconds / 60} min: ` +
    'your server is then stopped. Open documents are saved shortly before.'
  );
}

/** Return for the panel what becomes of GPUs that nothing uses. */
export function sayIdle(seconds: number): string {
  const when = seconds > 0 ? `in ${formatDuration(seconds)}` : 'now';
  return `Nothing uses your GPUs: they are given back ${when}.`;
}

/** Return the warning about that: true until the end. */
export function sayIdleWarning(seconds: number, now: Date): string {
  return (
    `Nothing uses your GPUs. They are given back at ${sayMoment(seconds, now)}, ` +
    'unless something computes or you are still here.'
  );
}

export function sayExtended(seconds: number, now: Date): string {
  return `Your GPU lease now ends at ${sayMoment(seconds, now)}, in ${formatDuration(seconds)}.`;
}

export const ENDED = {
  title: 'Your GPU lease has ended',
  body:
    'Its time is over, so this server is stopped and its GPUs are given back. ' +
    'Your files are kept: start a server again from the hub.'
};

export const GIVEN_BACK = {
  title: 'Your GPUs were given back',
  body:
    'Nothing used them, so this server is stopped; if you chose so, it goes on without GPUs in a moment. ' +
    'Your files are kept.'
};

export const WITHOUT_GPUS =
  'Nothing used your GPUs, so they were given back, and this server was started anew without any.';

export const STILL_HERE = "I'm still here";

export const NO_ROOM = 'Your lease cannot be made longer than it is now: extend it later.';

function sayMoment(seconds: number, now: Date): string {
  return formatMoment(new Date(now.getTime() + 1000 * seconds), now);
}
