// The section of what is live.

import * as React from 'react';

import type { Deployment, Listing } from './api';
import { type Doing, keyOf } from './doing';
import { count, curve, duration, fileName, rate, spoken, spokenFigures } from './format';
import { Empty, Looking, TroubleLine } from './lines';
import type { State } from './poller';
import { useRows } from './rows';
import { useStore } from './store';

const WIDTH = 48;
const HEIGHT = 16;

export function Live(props: { state: State<Listing>; doing: Doing }): React.ReactElement {
  const { value, trouble } = props.state;
  const said = trouble ?? (value?.trouble ? { message: value.trouble, code: '' } : null);
  const isUnknown = value !== null && value.deployments.length === 0 && value.trouble !== '';
  return (
    <section className="mlnb-side-section mlnb-side-live" aria-labelledby="mlnb-side-live">
      <header className="mlnb-side-heading">
        <h2 id="mlnb-side-live">Live</h2>
        {value && value.deployments.length > 0 && <span className="mlnb-side-count">{value.deployments.length}</span>}
      </header>
      <div className="mlnb-side-scroll">
        {said && <TroubleLine trouble={said} />}
        {value && !isUnknown ? <Rows deployments={value.deployments} dimmed={trouble !== null} doing={props.doing} /> : null}
        {!value && !trouble && <Looking />}
      </div>
    </section>
  );
}

interface RowsProps {
  deployments: readonly Deployment[];
  dimmed: boolean;
  doing: Doing;
}

function Rows({ deployments, dimmed, doing }: RowsProps): React.ReactElement {
  const [open, setOpen] = React.useState('');
  const busy = useStore(doing.busy);
  const rows = useRows();
  const toggle = React.useCallback((key: string) => setOpen(now => (now === key ? '' : key)), []);
  return (
    <div className="mlnb-side-groups" data-dimmed={dimmed || undefined} {...rows}>
      {deployments.length === 0 && (
        <Empty title="Nothing is live. In a notebook:" code={'%load_ext mlnb\n%deploy_model model --input X'} />
      )}
      {byNotebook(deployments).map(([notebook, ones]) => (
        <div key={notebook} className="mlnb-side-group" data-notebook={notebook}>
          <h3 title={notebook}>{fileName(notebook) || 'Without a notebook'}</h3>
          <ul className="mlnb-side-list" role="list">
            {ones.map(one => {
              const key = keyOf(one);
              return <Row key={key} one={one} isOpen={key === open} busy={busy[key] ?? ''} toggle={toggle} doing={doing} />;
            })}
          </ul>
        </div>
      ))}
    </div>
  );
}

function byNotebook(deployments: readonly Deployment[]): [string, Deployment[]][] {
  const groups = new Map<string, Deployment[]>();
  for (const one of deployments) {
    groups.set(one.notebook, [...(groups.get(one.notebook) ?? []), one]);
  }
  return [...groups];
}

interface RowProps {
  one: Deployment;
  isOpen: boolean;
  busy: string;
  toggle: (key: string) => void;
  doing: Doing;
}

const Row = React.memo(function Row({ one, isOpen, busy, toggle, doing }: RowProps): React.ReactElement {
  const key = keyOf(one);
  const id = React.useId();
  const [figures, setFigures] = React.useState(''); // as they were when it got the focus: not each second's are read out
  return (
    <li
      className="mlnb-side-row"
      data-row=""
      data-process={one.process}
      data-name={one.name}
      data-state={one.state}
      aria-busy={busy !== ''}
    >
      <button
        type="button"
        className="mlnb-side-head"
        data-head=""
        aria-expanded={isOpen}
        aria-label={busy ? `${one.name}, ${busy}` : spoken(one)}
        aria-describedby={id}
        onFocus={() => setFigures(spokenFigures(one))}
        onClick={() => toggle(key)}
      >
        <Dot one={one} />
        <span className="mlnb-side-title">
          <span className="mlnb-side-name" title={one.name}>
            {one.name}
          </span>
          {one.version !== null && <span className="mlnb-side-version">v{one.version}</span>}
        </span>
        <Rate one={one} busy={busy} />
        <Facts one={one} />
        <Curve recent={one.recent} />
      </button>
      <span hidden id={id}>
        {figures}
      </span>
      {isOpen && <Actions one={one} busy={busy !== ''} doing={doing} />}
    </li>
  );
});

function Dot({ one }: { one: Deployment }): React.ReactElement {
  const title = one.alerts > 0 ? `${count(one.alerts, 'alert')} firing` : one.state === 'live' ? 'Live' : 'No answer';
  const kind = one.alerts > 0 ? 'alert' : one.state;
  return (
    <svg className="mlnb-side-dot" data-kind={kind} viewBox="0 0 10 10" aria-hidden="true">
      <title>{title}</title>
      {kind === 'alert' ? <path d="M5 .8L9.6 9H.4z" /> : <circle cx="5" cy="5" r="3.5" />}
    </svg>
  );
}

function Rate({ one, busy }: { one: Deployment; busy: string }): React.ReactElement {
  if (busy || one.state === 'silent') {
    return <span className="mlnb-side-rate mlnb-side-muted">{busy}</span>;
  }
  return (
    <span className="mlnb-side-rate">
      {rate(one.rate)} <small>req/s</small>
    </span>
  );
}

function Facts({ one }: { one: Deployment }): React.ReactElement {
  if (one.state === 'silent') {
    return <span className="mlnb-side-facts">does not answer now</span>;
  }
  const errors = one.errors ?? 0;
  return (
    <span className="mlnb-side-facts" title={one.place}>
      <span className="mlnb-side-p99">p99 {duration(one.p99)}</span>
      <span className="mlnb-side-errors" data-some={errors > 0 || undefined}>
        {count(errors, 'error')}
      </span>
    </span>
  );
}

function Curve({ recent }: { recent: readonly number[] }): React.ReactElement {
  return (
    <svg className="mlnb-side-curve" width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
      {recent.length > 1 && <polyline points={curve(recent, WIDTH, HEIGHT)} />}
    </svg>
  );
}

function Actions({ one, busy, doing }: { one: Deployment; busy: boolean; doing: Doing }): React.ReactElement {
  const action = (name: string, text: string, act: () => void, waits = false): React.ReactElement => (
    <button
      type="button"
      className={`mlnb-side-action mlnb-side-${name}`}
      aria-label={`${text}: ${one.name}`}
      aria-disabled={waits && busy}
      onClick={act}
    >
      {text}
    </button>
  );
  return (
    <div className="mlnb-side-actions" role="group" aria-label={`Actions for ${one.name}`}>
      {action('dashboard', 'Dashboard', () => doing.dashboard(one))}
      {action('docs', 'Docs', () => doing.docs(one))}
      {action('copy', 'Copy URL', () => doing.copyUrl(one))}
      {one.notebook && action('notebook', 'Notebook', () => void doing.openNotebook(one))}
      {one.previous !== null &&
        action('rollback', `Roll back to v${one.previous}`, () => void doing.tell(one, 'rollback'), true)}
      {action('stop', 'Stop', () => void doing.tell(one, 'stop'), true)}
    </div>
  );
}
