# SPDX-License-Identifier: GPL-2.0-only
# Makes a C file that does not compile unless the Rust half declares every function, constant and structure as C does.
#
#   awk -f signatures.awk src/bridge/sys.rs src/bridge/entry.rs > signatures.c
#
# A declaration with a type that is not in c_name() below is an error: nothing goes unchecked.

BEGIN {
	c_name["bool"] = "bool"; c_name["u8"] = "u8"; c_name["u16"] = "u16"; c_name["u32"] = "u32"; c_name["u64"] = "u64"; c_name["i64"] = "s64"
	c_name["usize"] = "size_t"; c_name["c_int"] = "int"; c_name["c_uint"] = "unsigned int"
	c_name["c_ulong"] = "unsigned long"; c_name["c_char"] = "char"; c_name["c_void"] = "void"
	c_name["netdev_tx_t"] = "netdev_tx_t"; c_name["[u8; NAME_LEN]"] = "u8"
	c_name["tsnic"] = "struct tsnic"; c_name["sk_buff"] = "struct sk_buff"; c_name["net_device"] = "struct net_device"
	c_name["Totals"] = "struct tsnic_totals"; c_name["TxWish"] = "struct tsnic_tx_wish"
	c_name["Rendezvous"] = "struct tsnic_rendezvous"; c_name["Limits"] = "struct tsnic_moderation"
	handle["NicRef"] = "struct tsnic *"; handle["VirtioRef"] = "struct virtio_device *"
	handle["QueueRef"] = "struct virtqueue *"; handle["NapiRef"] = "struct napi_struct *"
	print "/* Made by signatures.awk. */"
	print "#include <linux/stddef.h>"
	print "#include \"tsnic.h\"\n"
	print "#define SAME(name, type) \\\n\t_Static_assert(__builtin_types_compatible_p(__typeof__(name), type), \"Rust declares \" #name \" otherwise\")\n"
}

function fail(text) {
	print "signatures.awk: " text > "/dev/stderr"
	failed = 1
	exit 1
}

function trim(text) {
	gsub(/^ +| +$/, "", text)
	return text
}

# The C type of a Rust type.
function c_type(rust, inner) {
	rust = trim(rust)
	if (rust ~ /^\*const /) {
		inner = c_type(substr(rust, 8))
		return inner ~ /\*$/ ? inner " const *" : "const " inner " *"
	}
	if (rust ~ /^\*mut /)
		return c_type(substr(rust, 6)) " *"
	if (rust ~ /^&mut /)
		return c_type(substr(rust, 6)) " *"
	if (rust ~ /^NonNull<.*>$/)
		return c_type(substr(rust, 9, length(rust) - 9)) " *"
	if (rust ~ /^[A-Za-z]+<'[a-z_]+>$/) {
		sub(/<.*/, "", rust)
		if (rust in handle)
			return handle[rust]
	}
	if (rust in c_name)
		return c_name[rust]
	fail("The C type of `" rust "` is not known")
}

# fn NAME(ARGUMENT: TYPE, ...) -> TYPE
function signature(text, name, arguments, result, list, count, i, types) {
	sub(/^.* fn /, "", text)
	name = text
	sub(/[<(].*/, "", name)
	arguments = text
	sub(/^[^(]*\(/, "", arguments)
	sub(/\).*/, "", arguments)
	result = "void"
	if (text ~ /\) -> /) {
		result = text
		sub(/^.*\) -> /, "", result)
		sub(/[;{]$/, "", result)
		result = c_type(result)
	}
	count = split(arguments, list, ",")
	types = ""
	for (i = 1; i <= count; i++) {
		if (trim(list[i]) == "")
			continue
		sub(/^[^:]*:/, "", list[i])
		types = types (types == "" ? "" : ", ") c_type(list[i])
	}
	print "SAME(&" name ", " result " (*)(" (types == "" ? "void" : types) "));"
	functions++
}

# pub struct NAME { pub FIELD: TYPE, ... }
function structure(text, name, type, list, count, i, field, members, checks) {
	sub(/^pub struct /, "", text)
	name = text
	sub(/ .*/, "", name)
	type = c_type(name)
	sub(/^[^{]*\{/, "", text)
	sub(/\}$/, "", text)
	count = split(text, list, ",")
	for (i = 1; i <= count; i++) {
		if (trim(list[i]) == "")
			continue
		field = trim(list[i])
		sub(/^pub /, "", field)
		members = members " " c_type(substr(field, index(field, ":") + 1))
		sub(/:.*/, "", field)
		members = members " " field ";"
		checks = checks "SAME(((" type " *)0)->" field ", __typeof__(((struct rust_" name " *)0)->" field "));\n"
		checks = checks "_Static_assert(offsetof(" type ", " field ") == offsetof(struct rust_" name ", " field \
			"), \"Rust has " name "." field " elsewhere\");\n"
	}
	print "\nstruct rust_" name " {" members " };"
	print "_Static_assert(sizeof(" type ") == sizeof(struct rust_" name "), \"Rust has another " name "\");"
	printf "%s", checks
	structures++
}

{
	sub(/\/\/.*/, "")
	source = source " " $0
}

END {
	if (failed)
		exit 1
	gsub(/[ \t]+/, " ", source)
	rest = source
	while (match(rest, /(pub (safe|unsafe) fn|extern "C" fn) [A-Za-z_0-9]+(<[^>]*>)?\([^)]*\)( -> [^;{]+)? ?[;{]/)) {
		signature(substr(rest, RSTART, RLENGTH))
		rest = substr(rest, RSTART + RLENGTH)
	}
	rest = source
	while (match(rest, /pub safe static [a-z_]+: [^;]+;/)) {
		split(substr(rest, RSTART + 16, RLENGTH - 17), constant, ": ")
		print "SAME(" constant[1] ", " c_type(constant[2]) ");"
		rest = substr(rest, RSTART + RLENGTH)
	}
	rest = source
	while (match(rest, /#\[repr\(C\)\] (#\[[^]]*\] )*pub struct [A-Za-z]+ \{[^}]*\}/)) {
		text = substr(rest, RSTART, RLENGTH)
		sub(/^.*pub struct/, "pub struct", text)
		structure(text)
		rest = substr(rest, RSTART + RLENGTH)
	}
	# As many as there are, however they are written.
	declared = gsub(/(pub (safe|unsafe)|extern "C") fn /, "&", source)
	if (functions != declared || functions == 0 || structures == 0)
		fail("Read " functions + 0 " functions of " declared " and " structures + 0 " structures")
}
