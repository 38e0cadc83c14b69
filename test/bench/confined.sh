# confined.sh: what the sandbox of fsync-tree costs: the same program without it
# is the peer.  Read by bench.sh.

# run_program PATH: the server anew, with this fsync-tree; empty: the installed one
run_program()
{
	stop_server
	sed -i '/^fsync.helper_path/d' "$work/run/data/postgresql.conf"
	echo "fsync.helper_path = '$1'" >>"$work/run/data/postgresql.conf"
	start_server
}

first_confined() { run_program ''; first_small; }
first_open() { run_program "$work/open"; first_small; }
reconcile_confined() { run_program ''; wait_all; reconcile; reconcile_once; }
reconcile_open() { run_program "$work/open"; wait_all; reconcile; reconcile_once; }

lines_confined()
{
	(cd "$root" && build build/bench/fsync-tree)
	cp "$root/build/bench/fsync-tree" "$work/open"
	find_printf "$S" >/dev/null
	compare "first sync of $FILES files, confined" first_confined \
		"fsync-tree without its sandbox" first_open 1.03
	attempt add "$S"
	compare "no-change reconciliation, confined" reconcile_confined \
		"fsync-tree without its sandbox" reconcile_open 1.03
	attempt remove_all
	run_program ''
}
