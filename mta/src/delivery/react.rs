//! What follows by itself from the answers to a ticket. Floor 4. Writes events through what the session has.
//! Always: what a rule ordered is in force before the ticket is settled, so that nothing is handed to the path in spite
//! of it.

use super::current::Current;
use super::report::{self, Wire};
use super::session::{Deps, Events, Path};
use crate::shaping::automation::Place;

/// Has the rules of automation look at what was said, and tells what they did. True if they did anything.
pub(super) async fn react<R, E: Events>(current: &Current, path: &Path, wire: &Wire, deps: &Deps<R, E>) -> bool {
    let queue = &current.ticket.queue;
    let place = Place {
        domain: queue.domain(),
        site: &path.site.name,
        providers: &path.shaped.providers,
        source: &path.source.name,
        listed: &path.shaped.automation,
    };
    let hits = deps.automation.look(&current.results, &place);
    if hits.is_empty() {
        return false;
    }
    let now = deps.clock.wall();
    for fired in deps.automation.fire(hits, &place, queue, now).await {
        let message = current.message.as_deref();
        let record = report::reaction(&fired, &current.results, &current.ticket, message, (path, wire), now);
        deps.events.write(record);
    }
    true
}
