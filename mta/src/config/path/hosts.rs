//! Which hosts of a site are tried, and what follows when one fails. Floor 5.

use egret_shared::address::{Network, Networks};

use super::Reader;
use crate::shaping::options::{IpLookupStrategy, ReconnectStrategy};

egret_shared::config_value_from_str! {
    IpLookupStrategy => "a use of address families",
    ReconnectStrategy => "a way to go on",
}

pub(super) fn read(reader: &mut Reader<'_, '_>) {
    reader.plain(
        "ip_lookup_strategy",
        "\"Ipv4AndIpv6\"",
        "The addresses of a host that are tried: \"Ipv4AndIpv6\" (both families in turn), \"Ipv4Only\", \"Ipv6Only\", \"Ipv4ThenIpv6\", \"Ipv6ThenIpv4\". A source reaches its own family only.",
        |o| &mut o.hosts.ip_lookup_strategy,
    );
    reader.plain(
        "reconnect_strategy",
        "\"ConnectNextHost\"",
        "What a session does when its connection has ended (421, no answer, a break) and there is more work: \"ConnectNextHost\" (it goes on at the site's next address, and ends behind the last), \"ReconnectSameHost\", \"TerminateSession\".",
        |o| &mut o.hosts.reconnect_strategy,
    );
    reader.plain(
        "try_next_host_on_transport_error",
        "false",
        "Whether a message during which the connection broke, or no answer came, is offered to the site's next address at once. Not one that the first may have taken.",
        |o| &mut o.hosts.try_next_host_on_transport_error,
    );
    reader.option::<NetworkList, _>(
        "skip_hosts",
        "[]",
        "Networks of mail exchangers that are passed over. Where nothing else is left, mail waits.",
        |o| &mut o.hosts.skip_hosts,
    );
    reader.option::<NetworkList, _>(
        "prohibited_hosts",
        "[]",
        "Networks of mail exchangers to whose sites nothing is sent, to break loops: where one address of a site is among them, its mail bounces. Networks of special use need not be named ([dns]).",
        |o| &mut o.hosts.prohibited_hosts,
    );
}

/// Networks as a list of texts.
struct NetworkList(Vec<Network>);

impl egret_shared::config::Value for NetworkList {
    const KIND: &'static str = <Vec<Network> as egret_shared::config::Value>::KIND;
    fn read(value: &egret_shared::config::RawValue<'_>) -> Result<Self, String> {
        Vec::read(value).map(Self)
    }
}

impl From<NetworkList> for Networks {
    fn from(list: NetworkList) -> Self {
        Self::new(list.0)
    }
}
