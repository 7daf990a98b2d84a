//! `[memory]`: how much of it before mail is refused. Floor 5.

use egret_shared::config::Section;
use egret_shared::units::Size;

use crate::memory::{Limit, Options};

egret_shared::config_value_from_str!(Limit => "a size or \"none\"");

pub(super) fn build(root: &Section<'_>) -> Options {
    let section = root.section("memory");
    let options = Options {
        soft: section.optional(
            "soft_limit",
            "With more resident memory than this, new messages are refused with 452, and caches shrink; what is being received may finish. \"none\" is no limit. Without the key: 60 % of the memory that the host, or the program's cgroup if that is less, has.",
        ),
        hard: section.optional(
            "hard_limit",
            "With more than this, new connections are refused with 421, too. Nothing is killed: deliveries go on. \"none\" is no limit. Without the key: 80 %, as above. Both limits are kept again below 95 % of them.",
        ),
        reception: section
            .optional::<Size>(
                "reception",
                "Memory for messages while they are received, in all sessions together; with less room than the client's SIZE, MAIL is refused with 452, and so is a message that finds no room as it comes. A message alone always has room. Without the key: a quarter of the lower limit.",
            )
            .map(|size| size.0),
    };
    if let (Some(Limit::Bytes(soft)), Some(Limit::Bytes(hard))) = (options.soft, options.hard)
        && hard < soft
    {
        section.complain("hard_limit", "is less than soft_limit; mail is refused before connections are");
    }
    options
}
