/**
 * Tells people about their lease through JupyterLab's own notifications and dialogs, and acts for them.
 *
 * A warning names the end as a time of day, so that it stays true as long as it stays on the screen.
 */
import { JupyterLab } from '@jupyterlab/application';
import { Dialog, InputDialog, Notification } from '@jupyterlab/apputils';

import { Attendant } from './guard';
import { LeaseModel } from './lease';
import { LeaseReading } from './message';
import {
  ENDED,
  GIVEN_BACK,
  NO_ROOM,
  STILL_HERE,
  WITHOUT_GPUS,
  sayExtended,
  sayIdleWarning,
  sayWarning
} from './words';

const SUCCESS_MS = 10000;
const EXTEND = 'Extend your GPU lease';

export interface AttendantOptions {
  lease: LeaseModel;
  extend: (hours: number) => Promise<LeaseReading>;
  /** Tells the hub that somebody is still here. */
  stay: () => Promise<LeaseReading>;
  saveAll: () => Promise<unknown>;
  showPanel: () => void;
  /** The hub's page of one's servers. */
  home: string;
  /** Tells JupyterLab whether there is a server to ask. */
  info: JupyterLab.IInfo | null;
}

export class LabAttendant implements Attendant {
  private _answerId = '';
  private _ended: Dialog<unknown> | null = null;
  private _idleId = '';
  private _withoutId = '';
  private _troubleId = '';
  private _warningId = '';

  constructor(private readonly _options: AttendantOptions) {}

  /** Let people choose by how much, and tell what the hub says. */
  async extend(): Promise<void> {
    const { lease, extend } = this._options;
    const choices = lease.extensions();
    if (choices.length === 0) {
      Notification.info(NO_ROOM, { autoClose: SUCCESS_MS });
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
    Notification.dismiss(this._answerId);
    this._answerId = await extend(choice.hours).then(
      ({ seconds_left }) =>
        Notification.success(sayExtended(seconds_left ?? 0, new Date()), { autoClose: SUCCESS_MS }),
      (error: unknown) =>
        Notification.error(error instanceof Error ? error.message : String(error), {
          autoClose: false
        })
    );
  }

  warn(threshold_seconds: number): void {
    this.unwarn();
    const { lease } = this._options;
    const text = sayWarning(threshold_seconds, lease.seconds_left ?? 0, new Date());
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

  unwarn(): void {
    Notification.dismiss(this._warningId);
  }

  save(): void {
    this._options.saveAll().catch((error: unknown) => {
      console.warn('GPU panel: not every document could be saved.', error);
    });
  }

  end(wasIdle: boolean): void {
    const { info } = this._options;
    if (info !== null) {
      info.isConnected = false; // nothing asks the server again, so nothing reports that it is gone
    }
    this.unwarn();
    Notification.dismiss(this._idleId);
    Dialog.flush(); // JupyterLab may have noticed first, and offers to restart what was stopped on purpose
    const dialog = new Dialog({
      ...(wasIdle ? GIVEN_BACK : ENDED),
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

  resume(): void {
    const { info } = this._options;
    if (info !== null) {
      info.isConnected = true;
    }
    this._ended?.reject();
  }

  idle(isSoon: boolean): void {
    Notification.dismiss(this._idleId);
    if (isSoon) {
      const text = sayIdleWarning(this._options.lease.idle_seconds_left ?? 0, new Date());
      this._idleId = Notification.warning(text, {
        autoClose: false,
        actions: [
          { label: STILL_HERE, displayType: 'accent', callback: () => void this.stay() },
          { label: 'Dismiss', callback: () => undefined }
        ]
      });
    }
  }

  /** Tell the hub that somebody is still here. */
  async stay(): Promise<void> {
    const { lease, stay } = this._options;
    try {
      lease.accept(await stay());
    } catch (error: unknown) {
      Notification.error(error instanceof Error ? error.message : String(error), {
        autoClose: false
      });
    }
  }

  goOn(isWithout: boolean): void {
    Notification.dismiss(this._withoutId);
    if (isWithout) {
      this._withoutId = Notification.warning(WITHOUT_GPUS, {
        autoClose: false,
        actions: [
          {
            label: 'Ask for them again …',
            caption: 'Opens the hub, where one button does it',
            displayType: 'accent',
            callback: () => this._openHub()
          },
          { label: 'Dismiss', callback: () => undefined }
        ]
      });
    }
  }

  trouble(sentence: string | null): void {
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
