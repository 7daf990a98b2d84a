//! What a failure means: the one place that decides between another host, another way, a later try
//! and a bounce.
//! Pure. Floor 2.
//! Always: `judge` is total, and only what the destination did can count as an attempt.

use egret_shared::fault::Party;

/// Where a session stands: what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The connection, through the proxy if there is one.
    Connect,
    /// The 220.
    Greeting,
    /// The answer to EHLO or HELO.
    Hello,
    /// The answer to STARTTLS, and the handshake.
    StartTls,
    /// The answer to AUTH, at each of its steps.
    Auth,
    /// Work.
    Idle,
    /// The answer to RSET.
    Reset,
    /// The answer to MAIL.
    Mail,
    /// The answer to RCPT.
    Rcpt,
    /// The answer to DATA.
    Data,
    /// The content is being written.
    Content,
    /// The answer to the final dot.
    AfterDot,
    /// The answer to BDAT, with the content on its way or behind it.
    Bdat,
    /// The answer to QUIT.
    Quit,
}

impl Stage {
    /// The command that is being answered, as responses and logs name it.
    pub fn command(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Idle => "idle",
            Self::Reset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Content => "content",
            Self::AfterDot => ".",
            Self::Bdat => "BDAT",
            Self::Quit => "QUIT",
        }
    }
}

/// What was seen at a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A reply with this code.
    Reply(u16),
    /// The connection ended, or what came is not SMTP.
    Broken,
    /// Nothing came in time.
    Late,
    /// This program is stopping.
    Stopped,
    /// The dial failed, by fault of this party.
    Fault(Party),
}

/// What it means for the recipients that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing is wrong: go on.
    Go,
    /// The destination took it.
    Delivered,
    /// Later; `counts` as in [`crate::message::Verdict`].
    Retry {
        /// Whether the attempt counts.
        counts: bool,
    },
    /// Too many recipients at once: in a further transaction, if this one took any.
    Again,
    /// The destination may have taken it: later, and say so.
    Uncertain,
    /// Never.
    Bounce,
    /// The next address or host of the site may do better.
    NextHost,
    /// The destination was not asked: the engine chooses another way out, or waits.
    NextWay,
}

/// Says what `seen` at `stage` means.
#[expect(clippy::match_same_arms, reason = "a table that is read from top to bottom: the first line that fits")]
pub fn judge(stage: Stage, seen: Seen) -> Judgement {
    use Judgement::{Again, Bounce, Delivered, Go, NextHost, NextWay, Uncertain};
    use Stage::{
        AfterDot, Auth, Bdat, Connect, Content, Data, Greeting, Hello, Idle, Mail, Quit, Rcpt, Reset, StartTls,
    };
    let counted = Judgement::Retry { counts: true };
    match (stage, seen) {
        (_, Seen::Fault(Party::Source | Party::Proxy | Party::Limit)) => NextWay,
        (_, Seen::Fault(Party::Remote)) => NextHost,
        (AfterDot | Bdat, Seen::Broken | Seen::Late | Seen::Stopped) => Uncertain,
        (Connect | Greeting | Hello | StartTls | Auth, Seen::Stopped) => NextWay,
        (_, Seen::Stopped) => Judgement::Retry { counts: false },
        // A 5xx greeting is about this host or this source, not about the message.
        (Greeting | Hello | StartTls | Auth | Reset | Mail | Rcpt | Quit, Seen::Reply(200..=299))
        | (Data, Seen::Reply(354)) => Go,
        (AfterDot | Bdat, Seen::Reply(200..=299)) => Delivered,
        // It offers CHUNKING and does not know it: that says nothing of the message.
        (Bdat, Seen::Reply(500..=504)) => counted,
        (Connect | Greeting | Hello | StartTls | Auth, _) => NextHost,
        (Idle | Reset | Quit, _) | (_, Seen::Broken | Seen::Late) => counted,
        (Rcpt, Seen::Reply(452 | 552)) => Again,
        (Mail | Rcpt | Data | Content | AfterDot | Bdat, Seen::Reply(500..=599)) => Bounce,
        (Mail | Rcpt | Data | Content | AfterDot | Bdat, Seen::Reply(_)) => counted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: [Stage; 14] = [
        Stage::Connect,
        Stage::Greeting,
        Stage::Hello,
        Stage::StartTls,
        Stage::Auth,
        Stage::Idle,
        Stage::Reset,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Content,
        Stage::AfterDot,
        Stage::Bdat,
        Stage::Quit,
    ];

    /// One letter each: g go, d delivered, c counted, u uncounted, a again, ? uncertain, b bounce,
    /// h next host, w next way.
    fn letter(stage: Stage, seen: Seen) -> char {
        match judge(stage, seen) {
            Judgement::Go => 'g',
            Judgement::Delivered => 'd',
            Judgement::Retry { counts: true } => 'c',
            Judgement::Retry { counts: false } => 'u',
            Judgement::Again => 'a',
            Judgement::Uncertain => '?',
            Judgement::Bounce => 'b',
            Judgement::NextHost => 'h',
            Judgement::NextWay => 'w',
        }
    }

    #[test]
    fn each_stage_and_each_thing_seen_has_one_meaning() {
        use Seen::{Broken, Fault, Late, Reply, Stopped};
        // Columns: connect greeting hello starttls auth idle reset mail rcpt data content dot bdat quit.
        for (seen, want) in [
            (Reply(250), "hggggcgggccddg"),
            (Reply(354), "hhhhhccccgcccc"),
            (Reply(421), "hhhhhccccccccc"),
            (Reply(450), "hhhhhccccccccc"),
            (Reply(503), "hhhhhccbbbbbcc"),
            (Reply(452), "hhhhhcccaccccc"),
            (Reply(550), "hhhhhccbbbbbbc"),
            (Reply(552), "hhhhhccbabbbbc"),
            (Reply(554), "hhhhhccbbbbbbc"),
            (Broken, "hhhhhcccccc??c"),
            (Late, "hhhhhcccccc??c"),
            (Stopped, "wwwwwuuuuuu??u"),
            (Fault(Party::Remote), "hhhhhhhhhhhhhh"),
            (Fault(Party::Source), "wwwwwwwwwwwwww"),
            (Fault(Party::Proxy), "wwwwwwwwwwwwww"),
            (Fault(Party::Limit), "wwwwwwwwwwwwww"),
        ] {
            let got: String = STAGES.iter().map(|stage| letter(*stage, seen)).collect();
            assert_eq!(got, want, "{seen:?}");
        }
    }

    #[test]
    fn only_the_destination_can_count_or_bounce() {
        for stage in STAGES {
            for party in [Party::Source, Party::Proxy, Party::Limit] {
                assert_eq!(judge(stage, Seen::Fault(party)), Judgement::NextWay, "{stage:?}");
            }
            assert!(!matches!(judge(stage, Seen::Stopped), Judgement::Retry { counts: true } | Judgement::Bounce));
        }
    }
}
