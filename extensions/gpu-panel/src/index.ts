/** JupyterLab plugin: connects models, stream, panel, status bar and lease monitor. */
import {
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin,
  JupyterLab
} from '@jupyterlab/application';
import { ICommandPalette, IThemeManager } from '@jupyterlab/apputils';
import { IStatusBar } from '@jupyterlab/statusbar';

import { LeaseNotifications } from './notifications';
import { extendLease, keepAlive } from './lease-api';
import { LeaseMonitor } from './lease-monitor';
import { hubPage } from './hub';
import { gpuIcon } from './icon';
import { LeaseModel } from './lease';
import { LeaseStatus } from './lease-status';
import { GpuModel } from './model';
import { GpuPanel, PANEL_ID } from './panel';
import { showNotices } from './server-notices';
import { GpuStatus } from './gpu-status';
import { Stream, streamUrl } from './stream';

const OPEN_COMMAND = 'gpu-panel:open';
const EXTEND_COMMAND = 'gpu-panel:extend-lease';
const HELP_COMMAND = 'gpu-panel:help';
const LEASE_ID = `${PANEL_ID}-lease`;
const TICK_MS = 1000;

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyterlab-gpu-panel:plugin',
  description: "Live memory and temperature of this server's GPUs, and its lease.",
  autoStart: true,
  optional: [ICommandPalette, ILayoutRestorer, IStatusBar, IThemeManager, JupyterLab.IInfo],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    statusBar: IStatusBar | null,
    themes: IThemeManager | null,
    info: JupyterLab.IInfo | null
  ): void => {
    const model = new GpuModel();
    const lease = new LeaseModel(() => performance.now());
    const show = (): void => void app.commands.execute(OPEN_COMMAND);
    const notifications = monitorLease(app, model, lease, info);
    const panel = new GpuPanel(
      model,
      lease,
      () => void app.commands.execute(EXTEND_COMMAND),
      () => void notifications.keepAlive()
    );
    app.shell.add(panel, 'right', { rank: 900 });
    restorer?.add(panel, PANEL_ID);
    themes?.themeChanged.connect(() => panel.redraw());

    addCommands(app, lease, notifications);
    palette?.addItem({ command: OPEN_COMMAND, category: 'GPU' });
    palette?.addItem({ command: EXTEND_COMMAND, category: 'GPU' });
    palette?.addItem({ command: HELP_COMMAND, category: 'GPU' });
    const status = new GpuStatus(model, show);
    statusBar?.registerStatusItem(PANEL_ID, { item: status, align: 'left', rank: 100 });
    const countdown = new LeaseStatus(lease, show);
    statusBar?.registerStatusItem(LEASE_ID, { item: countdown, align: 'left', rank: 101 });
    showNotices(model);
    openStream(app, model, lease);
  }
};

function addCommands(
  app: JupyterFrontEnd,
  lease: LeaseModel,
  notifications: LeaseNotifications
): void {
  app.commands.addCommand(OPEN_COMMAND, {
    label: 'Show GPU Panel',
    caption: "Live memory and temperature of this server's GPUs",
    icon: gpuIcon,
    execute: () => app.shell.activateById(PANEL_ID)
  });
  app.commands.addCommand(EXTEND_COMMAND, {
    label: 'Extend GPU Lease…',
    isVisible: () => lease.seconds_left !== null,
    execute: () => notifications.extend()
  });
  // schema/plugin.json puts it in the Help menu
  app.commands.addCommand(HELP_COMMAND, {
    label: 'GPU Workbench Help',
    execute: () => void window.open(hubPage('help'), '_blank', 'noopener')
  });
}

function monitorLease(
  app: JupyterFrontEnd,
  model: GpuModel,
  lease: LeaseModel,
  info: JupyterLab.IInfo | null
): LeaseNotifications {
  const notifications = new LeaseNotifications({
    lease,
    info,
    home: hubPage('home'),
    extend: hours => extendLease(hours, app.serviceManager.serverSettings),
    keepAlive: () => keepAlive(app.serviceManager.serverSettings),
    saveAll: () => app.commands.execute('docmanager:save-all'),
    showPanel: () => void app.commands.execute(OPEN_COMMAND)
  });
  const monitor = new LeaseMonitor(lease, notifications);
  lease.changed.connect(() => monitor.update(model.connection));
  setInterval(() => lease.tick(), TICK_MS);
  return notifications;
}

function openStream(app: JupyterFrontEnd, model: GpuModel, lease: LeaseModel): void {
  const { serverSettings } = app.serviceManager;
  new Stream({
    url: streamUrl(serverSettings),
    WebSocket: serverSettings.WebSocket,
    page: document,
    onMessage: message => {
      model.accept(message);
      lease.accept(message.lease);
    },
    onConnection: connection => (model.connection = connection)
  });
}

export default plugin;
