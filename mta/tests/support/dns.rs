//! A real DNS server (hickory-server) on a loopback port, UDP and TCP: one zone `test.` in memory,
//! names that fail on purpose, and a count of the questions for each name. The zone can be signed; zones below it are
//! then delegated without a signature.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::DNSKEY;
use hickory_proto::dnssec::{Algorithm, DnssecSigner, SigningKey as _};
use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA, TLSA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType, RrKey};
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// How a name fails.
#[derive(Clone, Copy)]
pub enum Fails {
    /// With this response code.
    With(ResponseCode),
    /// No answer at all.
    Silently,
}

/// The records of the zone `test.`, to be served.
pub struct Zone {
    records: Vec<Record>,
    failing: BTreeMap<String, Fails>,
    ttl: u32,
    key: Option<DnssecSigner>,
    anchor: String,
    children: Vec<(Name, Vec<Record>)>,
    unsigned: Vec<(Name, RecordType)>,
}

/// A running server. It stops when it is dropped.
pub struct DnsServer {
    pub address: SocketAddr,
    /// The zone's key, as a trust anchor file has it; empty if it is not signed.
    pub anchor: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    _server: Server<Handler>,
}

struct Handler {
    catalog: Catalog,
    /// Without the zones below: it knows their delegations.
    parent: Catalog,
    failing: BTreeMap<String, Fails>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name of the test");
    name.set_fqdn(true);
    name
}

impl Zone {
    pub fn new() -> Self {
        let soa = SOA::new(name("ns.test"), name("root.test"), 1, 3600, 600, 86_400, 60);
        Self {
            records: vec![Record::from_rdata(name("test"), 60, RData::SOA(soa))],
            failing: BTreeMap::new(),
            ttl: 300,
            key: None,
            anchor: String::new(),
            children: Vec::new(),
            unsigned: Vec::new(),
        }
    }

    /// The zone is signed, by a key of its own.
    pub fn signed(mut self) -> Self {
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).expect("a key");
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, Algorithm::ECDSAP256SHA256).expect("the key");
        let dnskey = DNSKEY::from_key(&key.to_public_key().expect("its public part"));
        self.anchor = format!("test. 300 IN DNSKEY {dnskey}\n");
        self.key = Some(DnssecSigner::new(dnskey, Box::new(key), name("test"), Duration::from_hours(24)));
        self
    }

    /// A zone below that is not signed; records of names in it belong to it.
    pub fn unsigned_child(mut self, child: &str) -> Self {
        let soa = SOA::new(name("ns.test"), name("root.test"), 1, 3600, 600, 86_400, 60);
        let ns = RData::NS(NS(name("ns.test")));
        let own = [RData::SOA(soa), ns.clone()].map(|data| Record::from_rdata(name(child), 60, data)).to_vec();
        self = self.with(child, ns);
        self.children.push((name(child), own));
        self
    }

    /// The signatures of these records are left out.
    pub fn stripped(mut self, owner: &str, kind: RecordType) -> Self {
        self.unsigned.push((name(owner), kind));
        self
    }

    pub fn tlsa(self, owner: &str, usage: u8, selector: u8, matching: u8, data: &[u8]) -> Self {
        let tlsa = TLSA::new(usage.into(), selector.into(), matching.into(), data.to_vec());
        self.with(owner, RData::TLSA(tlsa))
    }

    pub fn txt(self, owner: &str, text: &str) -> Self {
        self.with(owner, RData::TXT(TXT::new(vec![text.to_owned()])))
    }

    /// The time to live, in seconds, of the records that follow.
    pub fn ttl(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn mx(self, domain: &str, preference: u16, host: &str) -> Self {
        self.with(domain, RData::MX(MX::new(preference, name(host))))
    }

    pub fn alias(self, from: &str, to: &str) -> Self {
        self.with(from, RData::CNAME(CNAME(name(to))))
    }

    pub fn host(self, host: &str, addresses: &[&str]) -> Self {
        addresses.iter().fold(self, |zone, address| match address.parse().expect("an address of the test") {
            IpAddr::V4(v4) => zone.with(host, RData::A(A(v4))),
            IpAddr::V6(v6) => zone.with(host, RData::AAAA(AAAA(v6))),
        })
    }

    pub fn failing(mut self, domain: &str, how: Fails) -> Self {
        self.failing.insert(format!("{domain}."), how);
        self
    }

    fn with(mut self, owner: &str, data: RData) -> Self {
        let record = Record::from_rdata(name(owner), self.ttl, data);
        let child = self.children.iter_mut().find(|(child, _)| child.zone_of(&record.name));
        child.map_or(&mut self.records, |(_, records)| records).push(record);
        self
    }

    /// Serves the zone on a free port.
    pub async fn serve(self) -> DnsServer {
        let mut catalog = Catalog::new();
        for (child, records) in self.children {
            catalog.upsert(child.clone().into(), vec![Arc::new(handler(child, records, None))]);
        }
        let proof = self.key.is_some().then_some(NxProofKind::Nsec);
        let mut zone = handler(name("test"), self.records, proof);
        if let Some(key) = self.key {
            zone.add_zone_signing_key_mut(key).expect("a key of the zone");
            zone.secure_zone_mut().expect("signed");
        }
        for (owner, kind) in self.unsigned {
            let set = zone.records_get_mut().get_mut(&RrKey::new(owner.into(), kind)).expect("records of the test");
            Arc::make_mut(set).clear_rrsigs();
        }
        let zone = Arc::new(zone);
        catalog.upsert(name("test").into(), vec![zone.clone()]);
        let mut parent = Catalog::new();
        parent.upsert(name("test").into(), vec![zone]);
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let mut server = Server::new(Handler { catalog, parent, failing: self.failing, asked: asked.clone() });
        let (address, udp, tcp) = free_port().await;
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 1 << 16);
        DnsServer { address, anchor: self.anchor, asked, _server: server }
    }
}

fn handler(
    origin: Name,
    records: Vec<Record>,
    proof: Option<NxProofKind>,
) -> InMemoryZoneHandler<TokioRuntimeProvider> {
    let mut zone = InMemoryZoneHandler::empty(origin, ZoneType::Primary, AxfrPolicy::Deny, proof);
    for record in records {
        assert!(zone.upsert_mut(record.clone(), 1), "{record} was not taken");
    }
    zone
}

/// One port that is free for both protocols.
async fn free_port() -> (SocketAddr, UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
        let address = udp.local_addr().expect("its address");
        if let Ok(tcp) = TcpListener::bind(address).await {
            return (address, udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

impl DnsServer {
    /// How often anything was asked about `domain`.
    pub fn asked(&self, domain: &str) -> usize {
        self.asked.lock().expect("no panic while counting").get(&format!("{domain}.")).copied().unwrap_or_default()
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let asked = request.request_info().map(|info| info.query.name().to_string()).unwrap_or_default();
        *self.asked.lock().expect("no panic while counting").entry(asked.clone()).or_default() += 1;
        let is_ds = request.request_info().is_ok_and(|info| info.query.query_type() == RecordType::DS);
        match self.failing.get(&asked) {
            None if is_ds => self.parent.handle_request::<R, T>(request, respond).await,
            None => self.catalog.handle_request::<R, T>(request, respond).await,
            Some(Fails::With(code)) => {
                let answer = MessageResponseBuilder::from_message_request(request).error_msg(&request.metadata, *code);
                respond.send_response(answer).await.expect("an answer can be sent")
            }
            Some(Fails::Silently) => {
                let metadata = Metadata::response_from_request(&request.metadata);
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}
