/**
 * Lease monitor: decides when to warn, save and report near a lease's end, once per end and again after an extension.
 *
 * It is silent about an unconfirmed countdown: in a hidden page and without a connection.
 */
import { LeaseModel } from './lease';
import { Connection } from './model';

const THRESHOLDS_SECONDS = [300, 1800];
export const SAVE_SECONDS = 120;

/** A rise of the countdown by more than this is an extension; a smaller one is a correction. */
const REARM_SECONDS = 60;

/** While the server still sends messages, this is the time for its own question to the hub. */
const END_DELAY_SECONDS = 3;

/** The visible actions of the monitor. */
export interface LeaseActions {
  /** Show that less than `seconds` are left, in place of an earlier warning. */
  showWarning(seconds: number): void;
  /** Remove the warning. */
  dismissWarning(): void;
  /** Save open documents. */
  saveAll(): void;
  /** Show that the lease has ended: it expired, or nothing used its GPUs. */
  showEnd(wasIdle: boolean): void;
  /** Remove the sentence about the end after an extension. */
  dismissEnd(): void;
  /** Show or remove the warning about the release of unused GPUs. */
  showIdle(isSoon: boolean): void;
  /** Show or remove the sentence about a server that continues without its unused GPUs. */
  showWithoutGpus(isWithoutGpus: boolean): void;
  /** Show or remove the sentence about a failed GPU. */
  showTrouble(sentence: string | null): void;
}

export class LeaseMonitor {
  private _warned_seconds = Infinity;
  private _hasSaved = false;
  private _hasEnded = false;
  private _trouble: string | null = null;
  private _isIdle = false;
  private _isWithoutGpus = false;

  constructor(
    private readonly _lease: LeaseModel,
    private readonly _actions: LeaseActions
  ) {}

  /** Compare the current lease with the last one, and act on the difference. */
  update(connection: Connection): void {
    const { reading, idle_seconds_left } = this._lease;
    const seconds_left = this._lease.seconds_left ?? Infinity;
    const isLive = connection === 'live';
    this._updateProblem(reading?.trouble ?? null);
    if (isLive) {
      this._updateIdle(idle_seconds_left !== null);
      this._updateWithoutGpus((reading?.gpus_given_back ?? null) !== null);
      this._warn(seconds_left);
    }
    if (isLive || connection === 'standby') {
      this._save(Math.min(seconds_left, idle_seconds_left ?? Infinity));
    }
    const wasIdle = connection === 'lost' && idle_seconds_left === 0;
    const isOver =
      (connection === 'lost' && seconds_left <= 0) ||
      (isLive && reading?.confirmed === true && seconds_left <= -END_DELAY_SECONDS);
    if ((isOver || wasIdle) && !this._hasEnded) {
      this._hasEnded = true;
      this._actions.showEnd(wasIdle);
    } else if (this._hasEnded && isLive && seconds_left > 0) {
      this._hasEnded = false;
      this._actions.dismissEnd();
    }
  }

  private _updateProblem(trouble: string | null): void {
    if (trouble !== this._trouble) {
      this._trouble = trouble;
      this._actions.showTrouble(trouble);
    }
  }

  private _updateIdle(isIdle: boolean): void {
    if (isIdle !== this._isIdle) {
      this._isIdle = isIdle;
      this._actions.showIdle(isIdle);
    }
  }

  private _updateWithoutGpus(isWithoutGpus: boolean): void {
    if (isWithoutGpus !== this._isWithoutGpus) {
      this._isWithoutGpus = isWithoutGpus;
      this._actions.showWithoutGpus(isWithoutGpus);
    }
  }

  private _warn(seconds_left: number): void {
    const due = THRESHOLDS_SECONDS.find(seconds => seconds_left <= seconds) ?? Infinity;
    if (due < this._warned_seconds) {
      this._warned_seconds = due;
      this._actions.showWarning(due);
    } else if (seconds_left > this._warned_seconds + REARM_SECONDS) {
      this._warned_seconds = due;
      this._actions.dismissWarning();
    }
  }

  private _save(seconds_left: number): void {
    if (seconds_left > SAVE_SECONDS + REARM_SECONDS) {
      this._hasSaved = false;
    } else if (seconds_left <= SAVE_SECONDS && seconds_left > 0 && !this._hasSaved) {
      this._hasSaved = true;
      this._actions.saveAll();
    }
  }
}
