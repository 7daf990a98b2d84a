//! What shaping files say: blocks for all, for providers and for domains, in the order of the files. Plain data. Floor 1.
//! Always: blocks are kept as they stand, later ones behind earlier ones; that one replaces another is seen when they are
//! laid over each other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use egret_shared::limits::{Count, Throttle};

use super::automation::Rule;
use super::patch::{Patch, Place};

/// What one file says at one place.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its heading, like `[provider."google"]`.
    pub title: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// What earlier files said of the same counts no more.
    pub replace_base: bool,
    /// Options.
    pub patch: Arc<Patch>,
    /// Options for mail from one source, by its name.
    pub sources: BTreeMap<Arc<str>, SourceBlock>,
    /// Rules over answers.
    pub rules: Vec<Arc<Rule>>,
}

/// What a block says of one source.
#[derive(Clone, Debug)]
pub struct SourceBlock {
    /// Its heading.
    pub title: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// Options.
    pub patch: Arc<Patch>,
    /// How often this source is chosen for mail to the provider.
    pub selection_rate: Option<(Throttle, Place)>,
}

/// What is said of a domain.
#[derive(Clone, Debug)]
pub struct DomainBlock {
    /// The domain in its canonical spelling.
    pub domain: Arc<str>,
    /// It holds for the domain's site, and so for all domains of that; otherwise for the domain alone.
    pub rollup: bool,
    /// What is said.
    pub block: Block,
}

/// How mail of a provider is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The domain ends so.
    DomainSuffix(String),
    /// A mail exchanger's name ends so.
    MxSuffix(String),
    /// A mail exchanger has this name.
    HostName(String),
}

/// What one file says of a provider.
#[derive(Clone, Debug)]
pub struct ProviderBlock {
    /// How its mail is known.
    pub matches: Vec<Match>,
    /// Sessions at once from one source to all of its sites.
    pub connection_limit: Option<(Count, Place)>,
    /// Messages from one source to all of its sites.
    pub message_rate: Option<(Throttle, Place)>,
    /// What else is said.
    pub block: Block,
}

/// A provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// What is said of it.
    pub blocks: Vec<ProviderBlock>,
}

/// All that is said.
#[derive(Clone, Debug, Default)]
pub struct Shaping {
    /// For all mail.
    pub defaults: Vec<Block>,
    /// For providers, in the order in which they are first named.
    pub providers: Vec<Provider>,
    /// Where each of them is.
    named: HashMap<Arc<str>, usize>,
    /// For domains.
    pub domains: Vec<DomainBlock>,
    /// The files with their texts, to see whether they changed.
    pub texts: Vec<(String, String)>,
}

/// Those of `blocks` that count: what stands before one that replaces its base does not.
pub fn standing<'b, B>(blocks: &[&'b B], block: impl Fn(&'b B) -> &'b Block) -> Vec<&'b B> {
    let from = blocks.iter().rposition(|one| block(one).replace_base).unwrap_or(0);
    blocks[from..].to_vec()
}

impl Provider {
    /// What counts of it.
    pub fn standing(&self) -> Vec<&ProviderBlock> {
        standing(&self.blocks.iter().collect::<Vec<_>>(), |one| &one.block)
    }

    fn matches(&self) -> impl Iterator<Item = &Match> {
        self.standing().into_iter().flat_map(|block| &block.matches)
    }

    /// Whether anything could be known as its mail.
    pub fn can_match(&self) -> bool {
        self.matches().next().is_some()
    }

    /// Whether mail of this domain is its mail, whatever the domain's hosts are.
    pub fn fits_domain(&self, domain: &str) -> bool {
        self.matches().any(|one| matches!(one, Match::DomainSuffix(suffix) if domain.ends_with(suffix.as_str())))
    }

    /// Whether mail to these hosts is its mail: each of them must fit.
    pub fn fits_hosts(&self, hosts: &[&str]) -> bool {
        let fits = |host: &&str| {
            let host = host.strip_suffix('.').unwrap_or(host);
            self.matches().any(|one| match one {
                Match::MxSuffix(suffix) => host.ends_with(suffix.as_str()),
                Match::HostName(name) => host == name,
                Match::DomainSuffix(_) => false,
            })
        };
        !hosts.is_empty() && hosts.iter().all(fits)
    }
}

impl Shaping {
    /// Every rule over answers, wherever it stands.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let providers = self.providers.iter().flat_map(|provider| &provider.blocks).map(|one| &one.block);
        let blocks = self.defaults.iter().chain(providers).chain(self.domains.iter().map(|one| &one.block));
        blocks.flat_map(|block| &block.rules).map(|rule| &**rule)
    }

    /// The blocks of all mail that count.
    pub fn standing_defaults(&self) -> Vec<&Block> {
        standing(&self.defaults.iter().collect::<Vec<_>>(), |one| one)
    }

    /// The provider of this name, which comes to be if there is none.
    pub fn provider(&mut self, name: &str) -> &mut Provider {
        let at = self.named.get(name).copied().unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            self.named.insert(name.clone(), self.providers.len());
            self.providers.push(Provider { name, blocks: Vec::new() });
            self.providers.len() - 1
        });
        &mut self.providers[at]
    }

    /// The domains whose blocks hold for their sites, each once.
    pub fn rolled(&self) -> Vec<Arc<str>> {
        let mut domains: Vec<_> = self.domains.iter().filter(|one| one.rollup).map(|one| one.domain.clone()).collect();
        domains.sort_unstable();
        domains.dedup();
        domains
    }

    /// Every block.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        let providers = self.providers.iter().flat_map(|provider| &provider.blocks).map(|one| &one.block);
        self.defaults.iter().chain(providers).chain(self.domains.iter().map(|one| &one.block))
    }

    /// All options that are said anywhere.
    pub fn patches(&self) -> impl Iterator<Item = &Patch> {
        self.blocks()
            .flat_map(|block| std::iter::once(&*block.patch).chain(block.sources.values().map(|source| &*source.patch)))
    }
}
