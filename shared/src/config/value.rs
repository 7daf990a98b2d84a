//! How one value of a file becomes a typed value.
//! Pure. Floor 1.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::limits::{Count, Rate, Throttle};
use crate::units::{Seconds, Size, Span, Wait};

/// A type that a key can have.
pub trait Value: Sized {
    /// What the value is, for complaints and for the reference page.
    const KIND: &'static str;

    /// Reads it; the error says what is wrong with the value and what to write.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

/// Reads `value` as a string, or says what it is instead.
pub fn string<'v>(value: &'v DeValue<'_>, kind: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("is {}, but {kind} in quotes belongs here", a(value.type_str())))
}

fn a(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// Makes a type with `FromStr` a [`Value`] that is written as a string.
#[macro_export]
macro_rules! config_value_from_str {
    ($($type:ty => $kind:literal),* $(,)?) => {$(
        impl $crate::config::Value for $type {
            const KIND: &'static str = $kind;
            fn read(value: &$crate::config::RawValue<'_>) -> Result<Self, String> {
                let text = $crate::config::raw_string(value, $kind)?;
                text.parse().map_err(|e| format!("{text:?} is not {}: {e}", $kind))
            }
        }
    )*};
}

config_value_from_str! {
    Span => "a time span",
    Size => "a size",
    Rate => "a rate",
    Throttle => "a rate",
    IpAddr => "an IP address",
    SocketAddr => "an address with a port",
}

impl Value for Wait {
    const KIND: &'static str = Span::KIND;
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Self::try_from(Span::read(value)?).map_err(str::to_owned)
    }
}

impl Value for Seconds {
    const KIND: &'static str = Span::KIND;
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_integer().is_none() {
            return Span::read(value).map(|Span(span)| Self(span));
        }
        let seconds = u32::read(value).map_err(|why| format!("is a number of seconds, and {why}"))?;
        Ok(Self(Duration::from_secs(seconds.into())))
    }
}

impl Value for String {
    const KIND: &'static str = "a text";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        string(value, Self::KIND).map(str::to_owned)
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "a path";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match string(value, Self::KIND)? {
            "" => Err("is empty, but a path belongs here".to_owned()),
            text => Ok(Self::from(text)),
        }
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| format!("is {}, but true or false belongs here", a(value.type_str())))
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            const KIND: &'static str = "a whole number";
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let Some(number) = value.as_integer() else {
                    return Err(format!("is {}, but a whole number belongs here", a(value.type_str())));
                };
                Self::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| format!("{number} is not between {} and {}", Self::MIN, Self::MAX))
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, usize);

impl Value for Count {
    const KIND: &'static str = "a number";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => text.parse().map_err(|e| format!("{text:?} is not {}: {e}", Self::KIND)),
            None => match u32::read(value)? {
                0 => Err("is 0, with which nothing would ever be sent".to_owned()),
                count => Ok(count.into()),
            },
        }
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: &'static str = "a list";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let Some(array) = value.as_array() else {
            return Err(format!("is {}, but a list of {} in brackets belongs here", a(value.type_str()), T::KIND));
        };
        let each = |(i, v): (usize, &toml::Spanned<DeValue<'_>>)| {
            T::read(v.get_ref()).map_err(|e| format!("item {}: {e}", i + 1))
        };
        array.iter().enumerate().map(each).collect()
    }
}
