//! Follows the addresses of the host by netlink (rtnetlink(7)) and by trying. Floor 3.
//! Always: what the kernel's table does not list is tried by a bind before it is called missing, since
//! a local route (AnyIP) makes addresses usable that no interface has; without netlink all is tried
//! now and then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::address::{Range, canonical};
use egret_shared::net::socket::bound_to;
use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::held::State;
use super::pick::Sources;

/// Addresses of ranges larger than this are not followed one by one: a bind tells.
pub const FOLLOWED: u128 = 4096;
/// Changes come in flocks; this long after the first of them all is looked at once.
const SETTLE: Duration = Duration::from_millis(50);
/// How often all is looked at without a change, with netlink and without.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));

/// What the kernel lists: the state of each address, and whether others can reach it.
type Table = BTreeMap<IpAddr, (State, bool)>;

/// Told after each look.
pub type OnLook = Arc<dyn Fn() + Send + Sync>;
/// Asked at each look: a reload changes what is held.
pub type Current = Arc<dyn Fn() -> Arc<Sources> + Send + Sync>;

/// Watches for as long as it is polled, and looks whenever it is `told`.
pub async fn watch(sources: Current, on_look: OnLook, told: Arc<Notify>) {
    let mut changes = match new_multicast_connection(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr]) {
        Ok((connection, handle, changes)) => {
            tokio::spawn(connection);
            Some((handle, changes))
        }
        Err(error) => {
            warn!(%error, "netlink is not available; addresses are looked at every {} s", AGAIN.1.as_secs());
            None
        }
    };
    loop {
        look(&sources(), changes.as_ref().map(|(handle, _)| handle)).await;
        on_look();
        let next = async {
            match &mut changes {
                Some((_, changes)) => {
                    let _ = timeout(AGAIN.0, changes.next()).await;
                    sleep(SETTLE).await;
                    while timeout(Duration::ZERO, changes.next()).await.is_ok_and(|change| change.is_some()) {}
                }
                None => sleep(AGAIN.1).await,
            }
        };
        tokio::select! {
            () = next => {}
            () = told.notified() => {}
        }
    }
}

/// Looks once, without netlink's help to hear of changes.
pub async fn look_once(sources: &Sources) {
    match rtnetlink::new_connection() {
        Ok((connection, handle, _)) => {
            let serving = tokio::spawn(connection);
            look(sources, Some(&handle)).await;
            serving.abort();
        }
        Err(_) => look(sources, None).await,
    }
}

async fn look(sources: &Sources, handle: Option<&Handle>) {
    let table = match handle {
        Some(handle) => addresses(handle).await,
        None => BTreeMap::new(),
    };
    if sources.is_auto() {
        sources.follow(&global(&table));
    }
    let set = sources.set();
    let followed = set.ranges().iter().filter(|range| range.len() <= FOLLOWED).flat_map(Range::iter);
    let mut now: BTreeMap<IpAddr, State> =
        followed.take(FOLLOWED as usize * 4).map(|ip| (ip, state(ip, &table, sources.is_free()))).collect();
    if sources.is_auto() {
        // One that was there and is gone is told as lost, not forgotten.
        let known = sources.held().all();
        now.extend(known.into_keys().filter(|ip| !table.contains_key(ip)).map(|ip| (ip, State::Missing)));
    }
    for (ip, before, state) in sources.held().learn(now) {
        match (before, state) {
            (None, State::Held) => {}
            (_, State::Held) => info!(source = %ip, "source is back"),
            (_, state) => warn!(source = %ip, state = state.as_str(), "source cannot be used"),
        }
    }
}

fn state(ip: IpAddr, table: &Table, is_free: bool) -> State {
    match table.get(&ip) {
        Some((state, _)) => *state,
        None if is_free || bound_to(ip).is_ok() => State::Held,
        None => State::Missing,
    }
}

/// The addresses of the host with their states; empty if the kernel does not say.
async fn addresses(handle: &Handle) -> Table {
    let listed: Result<Vec<AddressMessage>, _> = handle.address().get().execute().try_collect().await;
    match listed {
        Ok(listed) => listed.iter().filter_map(address).collect(),
        Err(error) => {
            warn!(%error, "the kernel does not list its addresses");
            BTreeMap::new()
        }
    }
}

fn address(message: &AddressMessage) -> Option<(IpAddr, (State, bool))> {
    let find = |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    // On a point-to-point link the address is the peer's, and the local one is ours.
    let local = find(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let ip = local.or_else(|| find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None }))?;
    let unsure = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    let is_unsure =
        message.header.flags.intersects(unsure) && !message.header.flags.contains(AddressHeaderFlags::Optimistic);
    let state = if is_unsure { State::Tentative } else { State::Held };
    Some((canonical(ip), (state, message.header.scope == AddressScope::Universe)))
}

/// Those of global scope (ip-address(8)), private ones included, which a NAT in front may make public:
/// what `sources.addresses = "auto"` holds.
fn global(table: &Table) -> Vec<IpAddr> {
    table.iter().filter(|(_, (_, is_global))| *is_global).map(|(ip, _)| *ip).collect()
}
