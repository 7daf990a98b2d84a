//! The sites of the domains for which shaping files say something, looked up again and again: a block holds for all
//! domains of its domain's site. Floor 6.
//! Always: a failed look-up is told, and changes nothing; that a domain's site has changed is acted on at once.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::config::Complaint;
use metrics::{Counter, Gauge, counter, gauge};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use super::live::Live;
use crate::dns::resolver::{Failure, Resolved, Resolver};
use crate::queue::run::Queues;

/// How long until all are looked up again.
const EVERY: Duration = Duration::from_secs(300);
/// How long until those that failed are.
const AGAIN: Duration = Duration::from_secs(30);
/// Look-ups at once.
const AT_ONCE: usize = 16;

/// Tells what in shaping files is worth a word.
pub(super) fn tell<'n>(notes: impl Iterator<Item = &'n Complaint>) {
    for note in notes {
        if !note.message.starts_with("does nothing here") {
            warn!(place = %format_args!("{}:{}", note.file, note.line), key = note.key, "{}", note.message);
            continue;
        }
        info!(place = %format_args!("{}:{}", note.file, note.line), key = note.key, "{}", note.message);
    }
}

/// What looks up, and who is told.
pub(super) struct Rollup {
    live: Live,
    resolver: Resolver,
    queues: Queues,
    done: [Counter; 2],
    failing: Gauge,
}

impl Rollup {
    pub(super) fn new(live: Live, resolver: Resolver, queues: Queues) -> Self {
        let done = ["ok", "failed"].map(|result| counter!("egret_mta_shaping_lookups_total", "result" => result));
        Self { live, resolver, queues, done, failing: gauge!("egret_mta_shaping_failing_domains") }
    }

    /// Looks up until it is aborted.
    pub(super) fn start(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let any_failed = self.look_up().await;
                let pause = if any_failed { AGAIN } else { EVERY };
                self.wait(pause).await;
            }
        })
    }

    /// Until it is time to look up again, or the files have changed. The queues are told of other options meanwhile.
    async fn wait(&self, pause: Duration) {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            let paths = self.live.paths.load_full();
            tokio::select! {
                () = &mut pause => return,
                () = paths.shaper.changed() => {}
            }
            // That they have stopped is seen elsewhere.
            let _ = self.queues.ask(|engine, _, _| engine.paths_changed()).await;
            if !Arc::ptr_eq(&paths, &self.live.paths.load_full()) {
                return;
            }
        }
    }

    /// Looks up all domains; whether any failed.
    async fn look_up(&self) -> bool {
        let paths = self.live.paths.load_full();
        let mut failing = 0_u32;
        for (domain, found) in look_up(&self.resolver, paths.shaper.shaping().rolled()).await {
            let found = found.map(|resolved| resolved.site.name.clone()).map_err(|failure| words(&failure));
            self.done[usize::from(found.is_err())].increment(1);
            failing += u32::from(found.is_err());
            let is_news = paths.shaper.learn(&domain, found.as_deref().map_err(Clone::clone));
            match found {
                Err(why) if is_news => warn!(
                    %domain, why,
                    "the site of a domain in the shaping files cannot be looked up; what they say of it holds for the site that it had last, if it had one"
                ),
                Ok(site) if is_news => {
                    info!(%domain, %site, "the site of a domain in the shaping files is found again");
                }
                _ => {}
            }
        }
        self.failing.set(f64::from(failing));
        failing > 0
    }
}

/// The sites of domains, in no order.
pub(crate) async fn look_up(resolver: &Resolver, domains: Vec<Arc<str>>) -> Vec<(Arc<str>, Result<Resolved, Failure>)> {
    let (mut open, mut domains, mut all) = (JoinSet::new(), domains.into_iter(), Vec::new());
    loop {
        while open.len() < AT_ONCE {
            let Some(domain) = domains.next() else { break };
            let resolver = resolver.clone();
            open.spawn(async move {
                let found = resolver.site(&domain).await;
                (domain, found)
            });
        }
        match open.join_next().await {
            Some(Ok(done)) => all.push(done),
            // Look-ups do not panic, and are not aborted.
            Some(Err(_)) => {}
            None => return all,
        }
    }
}

/// Why a site is not found.
pub(crate) fn words(failure: &Failure) -> String {
    match failure {
        Failure::Permanent { response } | Failure::Temporary { response } => response.to_string(),
    }
}
