/**
 * Lease model: the server's last reading, counted down by a monotonic clock.
 *
 * It uses no DOM; the clock is an argument.
 */
import { ISignal, Signal } from '@lumino/signaling';

import { formatDuration } from './format';
import { LeaseReading } from './message';

const HOUR_SECONDS = 3600;

/** The tolerated difference between this countdown and the hub's. */
const SLACK_SECONDS = 60;

/** A choice of hours by which a lease may be extended, and its label. */
export interface Extension {
  hours: number;
  label: string;
}

const PRESETS: Extension[] = [
  { hours: 1, label: '1 hour' },
  { hours: 4, label: '4 hours' }
];

export class LeaseModel {
  private _changed = new Signal<this, void>(this);
  private _reading: LeaseReading | null = null;
  private _accepted_ms = 0;

  /** `now_ms` is a monotonic clock, in milliseconds. */
  constructor(private readonly _now_ms: () => number) {}

  /** Emitted after every reading and every tick. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The server's last reading, `null` without a hub. */
  get reading(): LeaseReading | null {
    return this._reading;
  }

  /** The seconds until the end, below 0 after it; `null` without a lease or without an end. */
  get seconds_left(): number | null {
    const left = this._reading?.seconds_left ?? null;
    return left === null ? null : left - (this._now_ms() - this._accepted_ms) / 1000;
  }

  /** The seconds until the release of unused GPUs, at least 0; `null` unless a release is due. */
  get idle_seconds_left(): number | null {
    const left = this._reading?.idle_seconds_left ?? null;
    return left === null ? null : Math.max(left - (this._now_ms() - this._accepted_ms) / 1000, 0);
  }

  accept(reading: LeaseReading | null): void {
    this._reading = reading;
    this._accepted_ms = this._now_ms();
    this._changed.emit();
  }

  /** Notify all listeners of the passed time. */
  tick(): void {
    this._changed.emit();
  }

  /** Return the choices for an extension now, below the bound by `SLACK_SECONDS`. */
  extensions(): Extension[] {
    const left = this.seconds_left;
    const max_hours = this._reading?.max_hours ?? null;
    if (left === null || this._reading?.state !== 'running') {
      return [];
    }
    if (max_hours === null) {
      return PRESETS;
    }
    const room_seconds = max_hours * HOUR_SECONDS - Math.max(left, 0) - SLACK_SECONDS;
    const minutes = Math.floor(room_seconds / 60);
    const presets = PRESETS.filter(({ hours }) => hours * 60 < minutes);
    const label = `as long as possible: ${formatDuration(60 * minutes)}`;
    return minutes < 1 ? [] : [...presets, { hours: minutes / 60, label }];
  }
}
