// What the sidebar shows, and who asks for it.

import * as React from 'react';

import '../style/base.css';
import { Api, type Listing, type Registry } from './api';
import { Doing } from './doing';
import { Guard, NoticeLine } from './lines';
import { Live } from './live';
import { Poller } from './poller';
import { Registries } from './registry';
import { focusRow } from './rows';
import type { ModelsSidebar } from './sidebar';
import { useStore } from './store';

const LIVE_EVERY = 1000; // ms
const REGISTRY_EVERY = 15_000;

interface Parts {
  readonly live: Poller<Listing>;
  readonly registries: Poller<readonly Registry[]>;
  readonly doing: Doing;
}

function partsOf(sidebar: ModelsSidebar): Parts {
  const api = new Api(sidebar.surroundings.app.serviceManager.serverSettings);
  const live = new Poller(signal => api.deployments(signal), LIVE_EVERY);
  const registries = new Poller(signal => api.registries(signal), REGISTRY_EVERY);
  const hasProxy = (): boolean => live.state.value().value?.proxy ?? false;
  const changed = (): void => [live, registries].forEach(one => one.again());
  return { live, registries, doing: new Doing(sidebar.surroundings, api, hasProxy, changed) };
}

export default function Panel({ sidebar }: { sidebar: ModelsSidebar }): React.ReactElement {
  const [{ live, registries, doing }] = React.useState(() => partsOf(sidebar));
  React.useEffect(() => {
    const follow = (): void => [live, registries].forEach(one => one.setActive(sidebar.isSeen()));
    follow();
    sidebar.seenChanged.connect(follow);
    return () => {
      sidebar.seenChanged.disconnect(follow);
      [live, registries].forEach(one => one.setActive(false));
    };
  }, [sidebar, live, registries]);
  React.useEffect(() => {
    let last = '';
    return live.state.subscribe(() => {
      const now = served(live.state.value().value);
      if (now !== last) {
        last = now;
        registries.again(); // it says what is live, and may have a version more
      }
    });
  }, [live, registries]);
  const liveState = useStore(live.state);
  const isSaid = liveState.trouble !== null;
  const isLoaded = liveState.value !== null;
  React.useEffect(() => {
    if (isLoaded && document.activeElement === sidebar.node) {
      focusRow(sidebar.node); // it was shown before its rows were there
    }
  }, [sidebar, isLoaded]);
  const registriesState = useStore(registries.state);
  return (
    <>
      <Guard of={liveState}>
        <Live state={liveState} doing={doing} />
      </Guard>
      <Guard of={registriesState}>
        <Registries state={registriesState} isSaid={isSaid} refresh={registries.again} doing={doing} />
      </Guard>
      <NoticeLine doing={doing} />
    </>
  );
}

function served(listing: Listing | null): string {
  return (listing?.deployments ?? []).map(one => `${one.process} ${one.name} ${one.version}`).join('\n');
}
