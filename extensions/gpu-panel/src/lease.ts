/**
 * What the front knows of the lease: the server's last word, counted down since by a monotonic clock.
 *
 * No DOM here; the clock is given.
 */
import { ISignal, Signal } from '@lumino/signaling';

import { formatDuration } from './format';
import { LeaseReading } from './message';

const HOUR_SECONDS = 3600;

/** Between what is counted here and what the hub decides, so much may have passed. */
const SLACK_SECONDS = 60;

/** Hours by which a lease may be extended, and how that is said. */
export interface Extension {
  hours: number;
  label: string;
}

const USUAL: Extension[] = [
  { hours: 1, label: '1 hour' },
  { hours: 4, label: '4 hours' }
];

export class LeaseModel {
  private _changed = new Signal<this, void>(this);
  private _reading: LeaseReading | null = null;
  private _accepted_ms = 0;

  /** `now_ms` is a monotonic clock, in milliseconds. */
  constructor(private readonly _now_ms: () => number) {}

  /** Emitted after every word of the server and every tick. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The server's last word, `null` outside a hub. */
  get reading(): LeaseReading | null {
    return this._reading;
  }

  /** What is left now, below 0 once it is over; `null` for a lease without an end, or none. */
  get seconds_left(): number | null {
    const left = this._reading?.seconds_left ?? null;
    return left === null ? null : left - (this._now_ms() - this._accepted_ms) / 1000;
  }

  /** What is left until GPUs that nothing uses are given back, at least 0; `null` unless that is soon. */
  get idle_seconds_left(): number | null {
    const left = this._reading?.idle_seconds_left ?? null;
    return left === null ? null : Math.max(left - (this._now_ms() - this._accepted_ms) / 1000, 0);
  }

  accept(reading: LeaseReading | null): void {
    this._reading = reading;
    this._accepted_ms = this._now_ms();
    this._changed.emit();
  }

  /** Let everybody count down. */
  tick(): void {
    this._changed.emit();
  }

  /** Return by how much the lease can be extended now: less than the bound by what may pass meanwhile. */
  extensions(): Extension[] {
    const left = this.seconds_left;
    const most_hours = this._reading?.most_hours ?? null;
    if (left === null || this._reading?.state !== 'running') {
      return [];
    }
    if (most_hours === null) {
      return USUAL;
    }
    const room_seconds = most_hours * HOUR_SECONDS - Math.max(left, 0) - SLACK_SECONDS;
    const minutes = Math.floor(room_seconds / 60);
    const usual = USUAL.filter(({ hours }) => hours * 60 < minutes);
    const label = `as long as possible: ${formatDuration(60 * minutes)}`;
    return minutes < 1 ? [] : [...usual, { hours: minutes / 60, label }];
  }
}
