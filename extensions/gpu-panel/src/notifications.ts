/**
 * Lease notifications: JupyterLab's notifications and dialogs about the lease, with their buttons.
 *
 * A warning names the end as a time of day, so that it stays true while it is on the screen.
 */
import { JupyterLab } from '@jupyterlab/application';
import { Dialog, InputDialog, Notification } from '@jupyterlab/apputils';

import { LeaseActions } from './lease-monitor';
import { LeaseModel } from './lease';
import { LeaseReading } from './message';
import {
  ENDED,
  GPUS_GIVEN_BACK,
  CANNOT_EXTEND,
  STILL_HERE,
  WITHOUT_GPUS,
  formatExtension,
  formatIdleWarning,
  formatWarning
} from './lease-format';

const SUCCESS_MS = 10000;
const EXTEND = 'Extend your GPU lease';

export interface NotificationOptions {
  lease: LeaseModel;
  extend: (hours: number) => Promise<LeaseReading>;
  /** Resets the hub's idle countdown. */
  keepAlive: () => Promise<LeaseReading>;
  saveAll: () => Promise<unknown>;
  showPanel: () => void;
  /** The hub's page with the user's servers. */
  home: string;
  /** Holds whether JupyterLab sends requests to its server. */
  info: JupyterLab.IInfo | null;
}

export class LeaseNotifications implements LeaseActions {
  private _resultId = '';
  private _ended: Dialog<unknown> | null = null;
  private _idleId = '';
  private _withoutGpusId = '';
  private _troubleId = '';
  private _warningId = '';

  constructor(private readonly _options: NotificationOptions) {}

  /** Offer the choices of an extension, and show the hub's answer. */
  async extend(): Promise<void> {
    const { lease, extend } = this._options;
    const choices = lease.extensions();
    if (choices.length === 0) {
      Notification.info(CANNOT_EXTEND, { autoClose: SUCCESS_MS });
      return;
    }
    const chosen = await InputDialog.getItem({
      title: EXTEND,
      label: 'By how much?',
      items: choices.map(({ label }) => label),
      okLabel: 'Extend'
    });
    const choice = choices.find(({ label }) => label === chosen.value);
    if (!chosen.button.accept || choice === undefined) {
      return;
    }
    Notification.dismiss(this._resultId);
    this._resultId = await extend(choice.hours).then(
      ({ seconds_left }) =>
        Notification.success(formatExtension(seconds_left ?? 0, new Date()), {
          autoClose: SUCCESS_MS
        }),
      (error: unknown) =>
        Notification.error(error instanceof Error ? error.message : String(error), {
          autoClose: false
        })
    );
  }

  showWarning(threshold_seconds: number): void {
    this.dismissWarning();
    const { lease } = this._options;
    const text = formatWarning(threshold_seconds, lease.seconds_left ?? 0, new Date());
    this._warningId = Notification.warning(text, {
      autoClose: false,
      actions: [
        {
          label: 'Extend by …',
          caption: EXTEND,
          displayType: 'accent',
          callback: () => void this.extend()
        },
        { label: 'Dismiss', callback: () => undefined }
      ]
    });
  }

  dismissWarning(): void {
    Notification.dismiss(this._warningId);
  }

  saveAll(): void {
    this._options.saveAll().catch((error: unknown) => {
      console.warn('GPU panel: not every document could be saved.', error);
    });
  }

  showEnd(wasIdle: boolean): void {
    const { info } = this._options;
    if (info !== null) {
      info.isConnected = false; // without requests JupyterLab reports no lost connection
    }
    this.dismissWarning();
    Notification.dismiss(this._idleId);
    Dialog.flush(); // JupyterLab's own dialog offers to restart the server
    const dialog = new Dialog({
      ...(wasIdle ? GPUS_GIVEN_BACK : ENDED),
      hasClose: false,
      buttons: [
        Dialog.cancelButton({ label: 'Stay on this page' }),
        Dialog.okButton({ label: 'Open the hub' })
      ]
    });
    this._ended = dialog;
    void dialog.launch().then(result => {
      if (result.button.accept) {
        this._openHub();
      }
    });
  }

  dismissEnd(): void {
    const { info } = this._options;
    if (info !== null) {
      info.isConnected = true;
    }
    this._ended?.reject();
  }

  showIdle(isSoon: boolean): void {
    Notification.dismiss(this._idleId);
    if (isSoon) {
      const text = formatIdleWarning(this._options.lease.idle_seconds_left ?? 0, new Date());
      this._idleId = Notification.warning(text, {
        autoClose: false,
        actions: [
          { label: STILL_HERE, displayType: 'accent', callback: () => void this.keepAlive() },
          { label: 'Dismiss', callback: () => undefined }
        ]
      });
    }
  }

  /** Reset the hub's idle countdown. */
  async keepAlive(): Promise<void> {
    const { lease, keepAlive } = this._options;
    try {
      lease.accept(await keepAlive());
    } catch (error: unknown) {
      Notification.error(error instanceof Error ? error.message : String(error), {
        autoClose: false
      });
    }
  }

  showWithoutGpus(isWithoutGpus: boolean): void {
    Notification.dismiss(this._withoutGpusId);
    if (isWithoutGpus) {
      this._withoutGpusId = Notification.warning(WITHOUT_GPUS, {
        autoClose: false,
        actions: [
          {
            label: 'Ask for them again …',
            caption: 'Open the hub, which has a button for it',
            displayType: 'accent',
            callback: () => this._openHub()
          },
          { label: 'Dismiss', callback: () => undefined }
        ]
      });
    }
  }

  showTrouble(sentence: string | null): void {
    Notification.dismiss(this._troubleId);
    if (sentence !== null) {
      this._troubleId = Notification.error(sentence, {
        autoClose: false,
        actions: [{ label: 'Show', callback: () => this._options.showPanel() }]
      });
    }
  }

  private _openHub(): void {
    window.location.assign(this._options.home);
  }
}
