// SPDX-License-Identifier: GPL-2.0-only
//! `kbuild/signatures.awk`: a Rust declaration that differs from C's does not get through the
//! module's build.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// What the kernel's headers and the glue say.
const TSNIC_H: &str = "
#include <stdbool.h>
#include <stdint.h>
typedef uint16_t u16; typedef uint64_t u64; typedef int netdev_tx_t;
struct tsnic; struct sk_buff;
struct tsnic_tx_wish { u16 csum_start, csum_offset; bool csum; };
struct tsnic *glue_alloc(const char *name, unsigned int size);
bool glue_push(struct tsnic *nic, const struct sk_buff *skb, struct tsnic_tx_wish *wish);
void glue_done(void);
u64 tsnic_value(struct tsnic *nic);
extern const unsigned int glue_bit;
";

/// The same in Rust.
const SYS_RS: &str = r#"
/// `struct tsnic_tx_wish`
#[repr(C)]
#[derive(Default)]
pub struct TxWish {
    pub csum_start: u16,
    pub csum_offset: u16,
    pub csum: bool,
}
unsafe extern "C" {
    pub unsafe fn glue_alloc(name: *const c_char, size: c_uint) -> *mut tsnic;
    pub unsafe fn glue_push(
        nic: NicRef<'_>, // an interface
        skb: *const sk_buff,
        wish: &mut TxWish,
    ) -> bool;
    pub safe fn glue_done();
    pub safe static glue_bit: c_uint;
}
extern "C" fn tsnic_value(nic: NicRef<'_>) -> u64 {
"#;

/// The comparison of `TSNIC_H` with these declarations: awk's end, and the compiler's if it came to
/// that.
fn compare(declarations: &str) -> (Output, Option<Output>) {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    };
    write("tsnic.h", TSNIC_H);
    write("linux/stddef.h", "#include <stddef.h>\n");
    let sys = write("sys.rs", declarations);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kbuild/signatures.awk");
    let made = Command::new("awk").arg("-f").arg(script).arg(sys).output().expect("awk");
    if !made.status.success() {
        return (made, None);
    }
    let source = write("signatures.c", &String::from_utf8_lossy(&made.stdout));
    let compiled = Command::new("cc")
        .args(["-fsyntax-only", "-I"])
        .arg(dir.path())
        .arg(source)
        .output()
        .expect("cc");
    (made, Some(compiled))
}

fn changed(from: &str, to: &str) -> String {
    assert!(SYS_RS.contains(from), "{from} is not there");
    SYS_RS.replacen(from, to, 1)
}

#[test]
fn declarations_that_agree_compile() {
    let (_, compiled) = compare(SYS_RS);
    let compiled = compiled.expect("awk knows all types");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

#[test]
fn each_difference_is_a_compile_error_that_names_it() {
    for (from, to, name) in [
        ("size: c_uint", "size: u64", "glue_alloc"),
        (", size: c_uint", "", "glue_alloc"),
        ("-> *mut tsnic", "-> *mut sk_buff", "glue_alloc"),
        ("-> bool", "-> c_int", "glue_push"),
        ("*const sk_buff", "*mut sk_buff", "glue_push"),
        ("glue_done()", "glue_done() -> bool", "glue_done"),
        ("glue_bit: c_uint", "glue_bit: u64", "glue_bit"),
        ("-> u64", "-> u16", "tsnic_value"),
        ("csum_offset: u16", "csum_offset: u64", "csum_offset"),
        ("    pub csum: bool,\n", "", "TxWish"),
    ] {
        let (_, compiled) = compare(&changed(from, to));
        let compiled = compiled.expect("awk knows all types");
        let text = String::from_utf8_lossy(&compiled.stderr).into_owned();
        assert!(!compiled.status.success(), "{from} as {to} compiles");
        assert!(
            text.contains("static assertion failed") && text.contains(name),
            "{from} as {to}: {text}"
        );
    }
}

#[test]
fn a_type_without_a_known_c_type_and_a_function_that_is_not_read_are_errors() {
    for (from, to, why) in [
        ("size: c_uint", "size: f32", "`f32`"),
        // An argument with parentheses is beyond the script.
        ("pub safe fn glue_done();", "pub safe fn glue_done(f: fn(u64));", "of 4"),
    ] {
        let (made, _) = compare(&changed(from, to));
        let text = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(!made.status.success() && text.contains(why), "{to}: {text}");
    }
}
