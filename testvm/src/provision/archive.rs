// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's archive, at the mirror this machine uses. apt is asked which that is; its configuration
//! is not read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::control::Stanza;

/// One suite at one mirror; the component is always `main`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Address of the mirror.
    pub uri: String,
    /// Suite, for example `bookworm-updates`.
    pub suite: String,
    /// Whether the lists say that the origin is Debian. Unknown on a machine whose lists were never
    /// fetched.
    pub is_debian: bool,
}

/// The sources of the release `codename` (its updates and security suites included) among apt's
/// index targets.
///
/// The origin of a source is in its signed Release file. Where no list says `Debian`, every source
/// of that suite and of the component `main` is taken: those of others fail the check of Debian's
/// signature.
#[must_use]
pub fn sources(targets: &[Stanza], codename: &str) -> Vec<Source> {
    let suites = ["", "-updates", "-security"].map(|end| format!("{codename}{end}"));
    let found: BTreeSet<_> = targets
        .iter()
        .filter(|target| target.get("Component") == Some("main"))
        .filter(|target| target.get("Origin").is_none_or(|origin| origin == "Debian"))
        .filter_map(|target| {
            // A machine may be subscribed to `stable`: the lists know its code name.
            let suite = target.get("Codename").or(target.get("Release"))?;
            suites.iter().any(|s| s == suite).then_some(Source {
                uri: target.get("Repo-URI")?.to_owned(),
                suite: suite.to_owned(),
                is_debian: target.get("Origin").is_some(),
            })
        })
        .collect();
    let any_is_debian = found.iter().any(|source| source.is_debian);
    found.into_iter().filter(|source| source.is_debian || !any_is_debian).collect()
}

/// `suite` and the release it belongs to, at the mirrors that have `codename`.
#[must_use]
pub fn suite(sources: &[Source], codename: &str, suite: &str) -> Vec<Source> {
    let release = suite.split('-').next().unwrap_or(suite);
    let mirrors = sources.iter().filter(|source| source.suite == codename);
    let at = |mirror: &Source, suite: &str| Source { suite: suite.to_owned(), ..mirror.clone() };
    mirrors.flat_map(|mirror| BTreeSet::from([at(mirror, release), at(mirror, suite)])).collect()
}

/// `sources` in apt's deb822 format, for a private configuration; only the lists of packages,
/// signed by a key of `keyring` if there is one, otherwise by any that the machine trusts.
#[must_use]
pub fn render(sources: &[Source], keyring: Option<&Path>) -> String {
    let mut text = String::new();
    for Source { uri, suite, .. } in sources {
        let _ = write!(
            text,
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\nTargets: Packages\n"
        );
        if let Some(keyring) = keyring {
            let _ = writeln!(text, "Signed-By: {}", keyring.display());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::control;
    use super::*;

    fn target(
        uri: &str,
        release: &str,
        component: &str,
        origin_and_codename: Option<(&str, &str)>,
    ) -> String {
        let known = origin_and_codename
            .map_or_else(String::new, |(o, c)| format!("Origin: {o}\nCodename: {c}\n"));
        format!("Component: {component}\nRelease: {release}\nRepo-URI: {uri}\n{known}\n")
    }

    fn found(targets: &[String], codename: &str) -> Vec<(String, String)> {
        let found = sources(&control::parse(&targets.concat()), codename);
        found.into_iter().map(|s| (s.uri, s.suite)).collect()
    }

    #[test]
    fn a_third_party_with_debian_in_its_address_is_not_debian_s_archive() {
        let targets = [
            target(
                "https://apt.example/debian/",
                "bookworm",
                "main",
                Some(("Example", "bookworm")),
            ),
            target("http://mirror.example/pub/", "bookworm", "main", Some(("Debian", "bookworm"))),
            target(
                "http://mirror.example/pub/",
                "bookworm",
                "contrib",
                Some(("Debian", "bookworm")),
            ),
            target(
                "http://mirror.example/pub/",
                "bookworm-updates",
                "main",
                Some(("Debian", "bookworm-updates")),
            ),
            target(
                "http://mirror.example/pub/",
                "bookworm-backports",
                "main",
                Some(("Debian Backports", "x")),
            ),
        ];
        let mirror = |suite: &str| ("http://mirror.example/pub/".to_owned(), suite.to_owned());
        assert_eq!(found(&targets, "bookworm"), [mirror("bookworm"), mirror("bookworm-updates")]);
        assert!(found(&targets, "trixie").is_empty());
    }

    #[test]
    fn a_machine_that_follows_stable_gets_its_code_name() {
        let targets =
            [target("http://mirror.example/", "stable", "main", Some(("Debian", "trixie")))];
        assert_eq!(
            found(&targets, "trixie"),
            [("http://mirror.example/".to_owned(), "trixie".to_owned())]
        );
    }

    #[test]
    fn without_lists_every_source_of_the_suite_may_be_it() {
        let targets = [
            target("https://apt.example/debian/", "bookworm", "main", None),
            target("http://mirror.example/", "bookworm", "main", None),
            target("http://mirror.example/", "bookworm", "main", None),
        ];
        let all = sources(&control::parse(&targets.concat()), "bookworm");
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|source| !source.is_debian));
    }

    #[test]
    fn another_suite_comes_from_the_same_mirror_with_its_release() {
        let mirror =
            |suite: &str| Source { uri: "http://m/".into(), suite: suite.into(), is_debian: true };
        let own =
            [mirror("bookworm"), Source { uri: "http://s/".into(), ..mirror("bookworm-security") }];
        assert_eq!(
            suite(&own, "bookworm", "trixie-backports"),
            [mirror("trixie"), mirror("trixie-backports")]
        );
        assert_eq!(suite(&own, "bookworm", "trixie"), [mirror("trixie")]);
    }

    #[test]
    fn what_is_rendered_names_the_keyring() {
        let source = Source { uri: "http://m/".into(), suite: "s".into(), is_debian: true };
        let stanza =
            |keyring| control::parse(&render(std::slice::from_ref(&source), keyring)).remove(0);
        assert_eq!(stanza(Some(Path::new("/k.gpg"))).get("Signed-By"), Some("/k.gpg"));
        assert_eq!((stanza(None).get("Signed-By"), stanza(None).get("Suites")), (None, Some("s")));
    }
}
