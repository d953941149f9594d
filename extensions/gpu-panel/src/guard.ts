/**
 * Decides what is said and done as a lease nears its end: once for each end, and again after an extension.
 *
 * Nothing is said of a countdown that nobody confirms: not in a hidden page, and not without a connection.
 */
import { LeaseModel } from './lease';
import { Connection } from './model';

const THRESHOLDS_SECONDS = [300, 1800];
export const SAVE_SECONDS = 120;

/** So much above a threshold is an extension, and no mere correction of the countdown. */
const REARM_SECONDS = 60;

/** A server that still speaks is given so long to ask the hub whether this is the end. */
const DOUBT_SECONDS = 3;

/** Whoever tells people and acts for them. */
export interface Attendant {
  /** Warn that less than `seconds` are left, in place of an earlier warning. */
  warn(seconds: number): void;
  /** Take the warning back. */
  unwarn(): void;
  /** Save open documents. */
  save(): void;
  /** Say that the lease has ended: its time was over, or nothing used its GPUs. */
  end(wasIdle: boolean): void;
  /** Take that back: there is time again. */
  resume(): void;
  /** Warn that GPUs which nothing uses are given back soon, or take that back. */
  idle(isSoon: boolean): void;
  /** Say that the server goes on without its GPUs, because nothing used them, or take that back. */
  goOn(isWithout: boolean): void;
  /** Tell the sentence about a failed GPU, or take it back. */
  trouble(sentence: string | null): void;
}

export class LeaseGuard {
  private _warned_seconds = Infinity;
  private _hasSaved = false;
  private _hasEnded = false;
  private _trouble: string | null = null;
  private _isIdle = false;
  private _isWithout = false;

  constructor(
    private readonly _lease: LeaseModel,
    private readonly _attendant: Attendant
  ) {}

  /** Look at the lease as it is now. */
  update(connection: Connection): void {
    const { reading, idle_seconds_left } = this._lease;
    const seconds_left = this._lease.seconds_left ?? Infinity;
    const isLive = connection === 'live';
    this._tell(reading?.trouble ?? null);
    if (isLive) {
      this._tellIdle(idle_seconds_left !== null);
      this._tellWithout((reading?.gpus_given_back ?? null) !== null);
      this._warn(seconds_left);
    }
    if (isLive || connection === 'standby') {
      this._save(Math.min(seconds_left, idle_seconds_left ?? Infinity));
    }
    const wasIdle = connection === 'lost' && idle_seconds_left === 0;
    const isOver =
      (connection === 'lost' && seconds_left <= 0) ||
      (isLive && reading?.confirmed === true && seconds_left <= -DOUBT_SECONDS);
    if ((isOver || wasIdle) && !this._hasEnded) {
      this._hasEnded = true;
      this._attendant.end(wasIdle);
    } else if (this._hasEnded && isLive && seconds_left > 0) {
      this._hasEnded = false;
      this._attendant.resume();
    }
  }

  private _tell(trouble: string | null): void {
    if (trouble !== this._trouble) {
      this._trouble = trouble;
      this._attendant.trouble(trouble);
    }
  }

  private _tellIdle(isIdle: boolean): void {
    if (isIdle !== this._isIdle) {
      this._isIdle = isIdle;
      this._attendant.idle(isIdle);
    }
  }

  private _tellWithout(isWithout: boolean): void {
    if (isWithout !== this._isWithout) {
      this._isWithout = isWithout;
      this._attendant.goOn(isWithout);
    }
  }

  private _warn(seconds_left: number): void {
    const due = THRESHOLDS_SECONDS.find(seconds => seconds_left <= seconds) ?? Infinity;
    if (due < this._warned_seconds) {
      this._warned_seconds = due;
      this._attendant.warn(due);
    } else if (seconds_left > this._warned_seconds + REARM_SECONDS) {
      this._warned_seconds = due;
      this._attendant.unwarn();
    }
  }

  private _save(seconds_left: number): void {
    if (seconds_left > SAVE_SECONDS + REARM_SECONDS) {
      this._hasSaved = false;
    } else if (seconds_left <= SAVE_SECONDS && seconds_left > 0 && !this._hasSaved) {
      this._hasSaved = true;
      this._attendant.save();
    }
  }
}
