// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's archive, at the mirror this machine uses. apt is asked which that is; its configuration
//! is not read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::control::{self, Stanza};

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
    /// How its signature is checked.
    pub verification: Verification,
}

/// What the machine's own entry for a source says about its signature. A site's own mirror may be
/// signed by a key of the site, or by none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verification {
    /// `Signed-By`: files with keys, or a key.
    pub signed_by: Option<String>,
    /// `Trusted`.
    pub trusted: Option<String>,
}

impl Verification {
    /// By an index target's `Sourcesentry`: `FILE:N`, the Nth stanza or line of the file. What
    /// cannot be read says nothing.
    fn of(target: &Stanza) -> Self {
        let entry = target.get("Sourcesentry").and_then(|entry| entry.rsplit_once(':'));
        entry
            .and_then(|(file, number)| {
                let text = fs::read_to_string(file).ok()?;
                Self::parse(&text, file.ends_with(".sources"), number.parse().ok()?)
            })
            .unwrap_or_default()
    }

    /// Entry `number`, from 1, of a file in the deb822 format or in that of `sources.list`.
    fn parse(text: &str, deb822: bool, number: usize) -> Option<Self> {
        let index = number.checked_sub(1)?;
        if deb822 {
            let stanzas = control::parse(text);
            let field = |name| stanzas.get(index)?.get(name).map(str::to_owned);
            return Some(Self { signed_by: field("Signed-By"), trusted: field("Trusted") });
        }
        let (options, _) = text.lines().nth(index)?.split_once('[')?.1.split_once(']')?;
        let option = |name| {
            let mut pairs = options.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then(|| value.to_owned()))
        };
        Some(Self { signed_by: option("signed-by"), trusted: option("trusted") })
    }
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
                verification: Verification::of(target),
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

/// `sources` in apt's deb822 format, for a private configuration; only the lists of packages. A
/// source is signed as the machine's entry says. Where that says nothing it is by a key that the
/// machine trusts, and for a source that is not known to be Debian's by one of `keyring`, if there
/// is one.
#[must_use]
pub fn render(sources: &[Source], keyring: Option<&Path>) -> String {
    let mut text = String::new();
    for Source { uri, suite, is_debian, verification } in sources {
        let _ = write!(
            text,
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\nTargets: Packages\n"
        );
        let keyring = keyring.filter(|_| !is_debian).map(|path| path.display().to_string());
        if let Some(signed_by) = verification.signed_by.as_ref().or(keyring.as_ref()) {
            let _ = writeln!(text, "Signed-By: {signed_by}");
        }
        if let Some(trusted) = &verification.trusted {
            let _ = writeln!(text, "Trusted: {trusted}");
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
        let mirror = |suite: &str| source("http://m/", suite, true);
        let own = [mirror("bookworm"), source("http://s/", "bookworm-security", true)];
        assert_eq!(
            suite(&own, "bookworm", "trixie-backports"),
            [mirror("trixie"), mirror("trixie-backports")]
        );
        assert_eq!(suite(&own, "bookworm", "trixie"), [mirror("trixie")]);
    }

    fn source(uri: &str, suite: &str, is_debian: bool) -> Source {
        let verification = Verification::default();
        Source { uri: uri.into(), suite: suite.into(), is_debian, verification }
    }

    #[test]
    fn the_keyring_is_for_what_may_not_be_debian() {
        let stanza = |is_debian, keyring| {
            control::parse(&render(&[source("http://m/", "s", is_debian)], keyring)).remove(0)
        };
        let keyring = Some(Path::new("/k.gpg"));
        assert_eq!(stanza(false, keyring).get("Signed-By"), Some("/k.gpg"));
        assert_eq!(stanza(true, keyring).get("Signed-By"), None);
        assert_eq!(stanza(false, None).get("Suites"), Some("s"));
    }

    #[test]
    fn a_mirror_with_a_key_of_its_own_is_checked_as_the_machine_does() {
        let deb822 = "Types: deb\nURIs: http://a/\n\n# note\nTypes: deb\nSigned-By:\n -----BEGIN\n .\n x\nTrusted: no\n";
        let entry = Verification::parse(deb822, true, 2).expect("an entry");
        assert_eq!(Verification::parse(deb822, true, 1), Some(Verification::default()));
        let own = Source { verification: entry.clone(), ..source("http://a/", "s", true) };
        let rendered = control::parse(&render(&[own], Some(Path::new("/k.gpg")))).remove(0);
        assert_eq!(rendered.get("Signed-By"), Some("\n -----BEGIN\n .\n x"));
        assert_eq!((rendered.get("Trusted"), entry.trusted.as_deref()), (Some("no"), Some("no")));

        let list = "# mirrors\ndeb [arch=amd64 signed-by=/site.gpg trusted=yes] http://a/ s main\ndeb http://b/ s main\n";
        let entry = Verification::parse(list, false, 2).expect("an entry");
        assert_eq!(entry.signed_by.as_deref(), Some("/site.gpg"));
        assert_eq!(entry.trusted.as_deref(), Some("yes"));
        assert_eq!(Verification::parse(list, false, 3), None);
    }
}
