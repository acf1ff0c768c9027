//! The parts of a URL, and the fact that is its host.

use super::template::{Fact, Part, Template};

/// The part of a URL that the next character belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlPart {
    Begin,
    Scheme,
    Authority,
    Socket,
    Path,
    Query,
}

/// The part that the next character after this text belongs to.
pub(super) fn url_part(before: &str) -> UrlPart {
    let Some((scheme, rest)) = before.split_once("://") else {
        return match before {
            "" => UrlPart::Begin,
            _ => UrlPart::Scheme,
        };
    };
    let is_socket = scheme.eq_ignore_ascii_case("unix");
    match rest.find(['/', '?', '#']) {
        _ if rest.contains('?') => UrlPart::Query,
        _ if is_socket && !rest.contains(':') => UrlPart::Socket,
        None if !is_socket => UrlPart::Authority,
        _ => UrlPart::Path,
    }
}

/// Whether its value comes from a file.
pub(super) fn is_of_file(fact: &Fact) -> bool {
    matches!(fact, Fact::File(_) | Fact::Json(..))
}

/// The fact from a file that is the host of a URL or a part of it. The value of an `${env:…}` before it is not known: a
/// host may follow it.
pub fn host_fact(url: &Template) -> Option<&Fact> {
    let mut before = String::new();
    for part in url.parts() {
        match part {
            Part::Literal(text) => before.push_str(text),
            Part::Fact(fact) if is_of_file(fact) => match url_part(&before) {
                UrlPart::Begin | UrlPart::Authority => return Some(fact),
                _ => before.push('x'),
            },
            Part::Fact(_) if !before.is_empty() => before.push('x'),
            Part::Fact(_) => {}
        }
    }
    None
}

/// Whether all that steps capture stands behind the host, in the path or the query. What begins with a fact may be anything.
pub(super) fn is_behind_host(url: &Template) -> bool {
    let mut before = String::new();
    url.parts().iter().all(|part| match part {
        Part::Literal(text) => {
            before.push_str(text);
            true
        }
        Part::Fact(fact) => {
            let is_behind = matches!(url_part(&before), UrlPart::Path | UrlPart::Query);
            before.push('x');
            is_behind || !matches!(fact, Fact::Step(..))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fact of a file.
    const FILE: &str = "${file:/etc/farewell-no-such-file}";

    #[test]
    fn the_fact_that_names_the_host_is_found_before_its_value_is() {
        for (text, is_one) in [
            ("FACT", true),
            ("FACT/x", true),
            ("http://FACT:80/", true),
            ("http://h:FACT/", true),
            ("http://a.${ip}.FACT", true),
            ("${env:S}://FACT/", true),
            ("${env:S}FACT/", true),
            ("http://h/FACT", false),
            ("http://h?FACT", false),
            ("http://${ip}/FACT", false),
            ("unix:///run/FACT:/x", false),
        ] {
            let template = Template::parse(&text.replace("FACT", FILE)).expect("a template");
            assert_eq!(host_fact(&template).is_some(), is_one, "{text}");
        }
    }
}
