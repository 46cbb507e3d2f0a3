// The section of what is in the registries.

import { caretRightIcon, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { Model, Registry, Version } from './api';
import type { Doing } from './doing';
import { ago, metric } from './format';
import { Empty, Looking, TroubleLine } from './lines';
import type { State } from './poller';
import { useRows } from './rows';

const FILTERED_FROM = 9; // models
const METRICS = 3;

interface RegistriesProps {
  state: State<readonly Registry[]>;
  /** Whether the section above says already that Jupyter does not answer. */
  isSaid: boolean;
  refresh: () => void;
  doing: Doing;
}

export function Registries({ state, isSaid, refresh, doing }: RegistriesProps): React.ReactElement {
  const { value, trouble } = state;
  const [filter, setFilter] = React.useState('');
  const models = (value ?? []).reduce((sum, one) => sum + one.models.length, 0);
  const shown = models >= FILTERED_FROM ? filter : '';
  return (
    <section className="mlnb-side-section mlnb-side-registry" aria-labelledby="mlnb-side-registry">
      <header className="mlnb-side-heading">
        <h2 id="mlnb-side-registry">Registry</h2>
        <button
          type="button"
          className="mlnb-side-icon mlnb-side-refresh"
          title="Look again"
          aria-label="Look again what is in the registry"
          onClick={refresh}
        >
          <refreshIcon.react tag="span" />
        </button>
      </header>
      {models >= FILTERED_FROM && (
        <input
          type="search"
          className="mlnb-side-filter"
          placeholder="Filter models"
          aria-label="Filter models by name"
          value={filter}
          onChange={event => setFilter(event.target.value)}
        />
      )}
      <div className="mlnb-side-scroll" data-dimmed={trouble !== null || undefined}>
        {trouble && !isSaid && <TroubleLine trouble={trouble} />}
        {value?.map((one, index) => (
          <Shelf key={one.url} registry={one} isDefault={index === 0} filter={shown} alone={value.length === 1} doing={doing} />
        ))}
        {!value && !trouble && <Looking />}
      </div>
    </section>
  );
}

interface ShelfProps {
  registry: Registry;
  isDefault: boolean;
  filter: string;
  alone: boolean;
  doing: Doing;
}

const Shelf = React.memo(function Shelf({ registry, isDefault, filter, alone, doing }: ShelfProps): React.ReactElement {
  const rows = useRows();
  const models = registry.models.filter(one => one.name.toLowerCase().includes(filter.trim().toLowerCase()));
  return (
    <div className="mlnb-side-shelf" data-url={registry.url} {...rows}>
      {!alone && <h3 title={registry.url}>{registry.title}</h3>}
      {registry.trouble && <TroubleLine trouble={{ message: registry.trouble, code: '' }} />}
      {registry.models.length === 0 && !registry.trouble && (
        <Empty title="No model is registered. In a notebook:" code={'%load_ext mlnb\n%deploy_model model --input X'} />
      )}
      {registry.models.length > 0 && models.length === 0 && <p className="mlnb-side-line">No model has such a name.</p>}
      <ul className="mlnb-side-list" role="list">
        {models.map(model => (
          <ModelRow key={model.name} model={model} registry={registry} isDefault={isDefault} doing={doing} />
        ))}
      </ul>
    </div>
  );
});

interface ModelProps {
  model: Model;
  registry: Registry;
  isDefault: boolean;
  doing: Doing;
}

const ModelRow = React.memo(function ModelRow({ model, registry, isDefault, doing }: ModelProps): React.ReactElement {
  const [isOpen, setOpen] = React.useState(false);
  const latest = model.versions[0];
  const deploy = (version: Version): void => doing.insert(`${model.name}:${version.number}`, registry, isDefault);
  return (
    <li className="mlnb-side-model" data-row="" data-name={model.name}>
      <button
        type="button"
        className="mlnb-side-head mlnb-side-model-head"
        data-head=""
        aria-expanded={isOpen}
        onClick={() => setOpen(!isOpen)}
      >
        <caretRightIcon.react tag="span" className="mlnb-side-caret" />
        <span className="mlnb-side-title">
          <span className="mlnb-side-name" title={model.name}>
            {model.name}
          </span>
          {latest && <span className="mlnb-side-version">v{latest.number}</span>}
        </span>
        <span className="mlnb-side-tags">
          {Object.keys(model.aliases).map(alias => (
            <span key={alias} className="mlnb-side-tag" title={`${alias} is v${model.aliases[alias]}`}>
              {model.aliases[alias] === latest?.number ? alias : `${alias} v${model.aliases[alias]}`}
            </span>
          ))}
        </span>
        {model.live.length > 0 && <LiveMark text={`v${model.live.join(', v')} live`} />}
      </button>
      {isOpen && (
        <Versions model={model} deploy={deploy} />
      )}
    </li>
  );
});

function Versions({ model, deploy }: { model: Model; deploy: (version: Version) => void }): React.ReactElement {
  const now = useNow(60_000);
  const row = (one: Version): React.ReactElement => (
    <VersionRow key={one.number} version={one} name={model.name} isLive={model.live.includes(one.number)} now={now} deploy={deploy} />
  );
  return (
    <ul className="mlnb-side-versions" role="list" aria-label={`Versions of ${model.name}`}>
      {model.versions.map(row)}
    </ul>
  );
}

/** The time, renewed every so many milliseconds. */
function useNow(every: number): number {
  const [now, setNow] = React.useState(Date.now);
  React.useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

interface VersionProps {
  version: Version;
  name: string;
  isLive: boolean;
  now: number;
  deploy: (version: Version) => void;
}

function VersionRow({ version, name, isLive, now, deploy }: VersionProps): React.ReactElement {
  const metrics = Object.entries(version.metrics);
  const tags = version.aliases.map(alias => (
    <span key={alias} className="mlnb-side-tag" title={alias}>
      {alias}
    </span>
  ));
  const told = metrics.map(([key, value]) => `${key} ${metric(value)}`).join('\n');
  return (
    <li className="mlnb-side-number" data-number={version.number} title={version.description || version.model_type}>
      <span className="mlnb-side-version">v{version.number}</span>
      <span className="mlnb-side-created" title={version.created}>
        {ago(version.created, now)}
      </span>
      {isLive && <LiveMark text="live" />}
      <button
        type="button"
        className="mlnb-side-action mlnb-side-deploy"
        title="Insert the cell that deploys it"
        aria-label={`Deploy ${name} version ${version.number}: insert the cell`}
        onClick={() => deploy(version)}
      >
        Deploy
      </button>
      {tags.length > 1 && <span className="mlnb-side-tags">{tags}</span>}
      {(metrics.length > 0 || tags.length === 1) && (
        <span className="mlnb-side-metrics" title={told}>
          {tags.length === 1 && tags}
          {metrics.slice(0, METRICS).map(([key, value]) => (
            <span key={key} className="mlnb-side-metric">
              {key} <b>{metric(value)}</b>
            </span>
          ))}
        </span>
      )}
    </li>
  );
}

function LiveMark({ text }: { text: string }): React.ReactElement {
  return (
    <span className="mlnb-side-mark" title={text}>
      <svg className="mlnb-side-dot" data-kind="live" viewBox="0 0 10 10" aria-hidden="true">
        <circle cx="5" cy="5" r="3.5" />
      </svg>
      <span className="mlnb-side-hidden">{text}</span>
    </span>
  );
}
