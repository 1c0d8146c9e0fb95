# Everything that CI does is a recipe here. `./justw <recipe>` sets the machine up first.
#
# Each recipe `NAME` prints `docs/help/NAME.txt` where `--help` is among its arguments, before anything is built. Else it runs
# `_NAME`, which builds what it takes and does the work.

set shell := ["sh", "-eu", "-c"]
# Recipes do not print their commands; `just --verbose` prints them.
set quiet
# A command that fails has printed its own error.
set no-exit-message
# Recipes also get their arguments as "$@", so that words with blanks stay whole.
set positional-arguments

cargo := env("CARGO", "cargo")
target := env("CARGO_TARGET_DIR", justfile_directory() / "target")
boot := target / "boot"
harness := target / "debug/aurora-bench"
bare := "x86_64-unknown-none"
or_help := "'" + justfile_directory() / "docs/help/or-run" + "' '" + just_executable() + "'"
# Bugs that a kernel can be built with.
bugs := "missing-fence dropped-interrupt torn-slot-read lost-recall lost-wake missing-flush unchecked-copy"
# Packages of which every binary goes into the boot archive.
programs := "init pager store oom policy shell log-service serial power clock edu-driver perf guest-tests"
# Crates that compile completely only for the kernel's target.
bare_crates := "kern-hal ipc-fast kern-image"

# Debian's compiler has no core for the target, so core is built with the kernel.
build_std := if env("AURORA_BUILD_STD", "") == "1" { "RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=core,alloc,compiler_builtins CARGO_UNSTABLE_BUILD_STD_FEATURES=compiler-builtins-mem" } else { "" }
kernel_flags := "-Crelocation-model=static -Ccode-model=kernel -Cforce-frame-pointers=yes -Cjump-tables=no"
# The target's own code model: another one cannot be linked with the core that comes with the target.
user_flags := "-Crelocation-model=static"
flags_for := "CARGO_TARGET_X86_64_UNKNOWN_NONE_RUSTFLAGS"

export AURORA_BOOT := boot
# The log levels that are compiled in; the boot option `level` selects among them. Without this defmt keeps errors only.
export DEFMT_LOG := env("DEFMT_LOG", "trace")

# List the recipes
[private]
default:
    @'{{just_executable()}}' --justfile '{{justfile()}}' --list --unsorted

# Build kernel, user programs and harness, and pack the boot archive
build *args:
    {{or_help}} build "$@"

_build: _harness (_kernel "" "") _programs

# Boot a system and show what it says, or work at its shell: `./justw run demo`, `./justw run --cpus 4 run=test`
run *args:
    {{or_help}} run "$@"

_run *args: _build
    '{{harness}}' run "$@"

# Measure: instruction and cycle tables on 1, 2 and 4 CPUs, into target/bench/latest.json
bench *args:
    {{or_help}} bench "$@"

_bench *args: _build (_kernel "nofast" "--no-default-features")
    '{{harness}}' bench "$@"

# List every instruction of one operation of a bench row, by phase; or its changes since a revision: `./justw explain call_reply_cross_as --diff HEAD~1`
explain *args:
    {{or_help}} explain "$@"

_explain *args: _build (_kernel "nofast" "--no-default-features")
    '{{harness}}' explain --just '{{just_executable()}}' "$@"

# Run random IPC across CPUs and check that no message is lost: `./justw stress --seed 7 --cpus 4 --messages 1000000 --mode icount` (`--shrink` searches for a smaller run that fails in the same way)
stress *args:
    {{or_help}} stress "$@"

_stress *args: (_seeded args)
    '{{harness}}' stress "$@"

# Run all operations on mapped memory from all CPUs and check every access: `./justw torture --seed 7 --cpus 4 --ops 10000000`
torture *args:
    {{or_help}} torture "$@"

_torture *args: (_seeded args)
    '{{harness}}' torture "$@"

# Run random system calls from all CPUs on shared objects, and check their history against the model: `./justw fuzz --seed 7 --cpus 4 --ops 10000000`
fuzz *args:
    {{or_help}} fuzz "$@"

_fuzz *args: (_seeded args)
    '{{harness}}' fuzz "$@"

# Let a process schedule tasks by a policy, and judge what comes of it: `./justw policy --policy edf --cpus 1 --seed 7`
policy *args:
    {{or_help}} policy "$@"

_policy *args: _build (_kernel "dump" "--features dump") (_quick "faults" "--features faults" "kernel")
    '{{harness}}' policy "$@"

# Make a program outside the tree, and a system in which it runs: `./justw new-program hello --out ~/hello`, then `cargo run --release` there
new-program *args:
    {{or_help}} new-program "$@"

_new-program *args: _harness
    '{{harness}}' new-program "$@"

# Kill random processes of a system under load, and see that they come back: `./justw restarts --seed 7 --count 2000 --cpus 4`; ends with `restarts: seed=… killed=… recovered=… lost_requests=… stuck=… kernel_panics=… leaked_pages=…`
restarts *args:
    {{or_help}} restarts "$@"

_restarts *args: _build
    '{{harness}}' restarts "$@"

# Stop operations of the simulated kernel at each point and run others in between: `./justw pairs --seed 7`, `./justw pairs --whole`; `--limits small` makes every bound tiny
pairs *args:
    {{or_help}} pairs "$@"

_pairs *args:
    case " $* " in *" --limits small "*) small='--features small-limits';; *) small=;; esac; \
    case " $* " in *" --whole "*) profile='--profile pairs';; *) profile=;; esac; \
    {{cargo}} test --quiet $profile --package kern-core $small --test pairs -- "$@"

# Search for rights that nobody gave: try every operation with every argument, in every state of small worlds of the model: `./justw detours --depth 4 --minutes 60`
detours *args:
    {{or_help}} detours "$@"

_detours *args:
    {{cargo}} test --quiet --release --package model --test detours -- "$@"

# Let processes of the simulated kernel do arbitrary operations, and judge each operation by who may do what: `./justw confine --seed 7 --cases 20000`; `--limits small` makes every bound tiny
confine *args:
    {{or_help}} confine "$@"

_confine *args:
    case " $* " in *" --limits small "*) small='--features small-limits';; *) small=;; esac; \
    {{cargo}} test --quiet --package kern-core $small --test confine -- "$@"

# Search for a planted bug; fails if it is not found: `./justw planted torn-slot-read --mode icount --seeds 20`
planted *args:
    {{or_help}} planted "$@"

_planted bug *args: (_known_bug bug) _build (_quick "planted-" + bug "--features chaos,dump,planted-" + bug)
    shift; '{{harness}}' {{if bug == "missing-flush" { "torture" } else if bug == "unchecked-copy" { "fuzz" } else { "stress" } }} --variant 'planted-{{bug}}' "$@"

# Run many seeds of stress or of the seeded tests, in shards; a killed campaign continues where it stopped: `./justw campaign stress --seeds 1000 --shard 2/8 --out DIR`
campaign *args:
    {{or_help}} campaign "$@"

_campaign *args: (_campaign_kernels args)
    '{{harness}}' campaign "$@"

# Run a campaign on GNU parallel: `./justw campaign-parallel 8 DIR stress --seeds 1000` (its own options in $PARALLEL: '--jobs 4')
campaign-parallel *args:
    {{or_help}} campaign-parallel "$@"

_campaign-parallel shards out *args: (_campaign_kernels args)
    shards=$1; out=$2; shift 2; mkdir -p "$out"; status=0; \
    seq "$shards" | parallel --will-cite --line-buffer --quote --tagstring 'shard {}' \
        '{{harness}}' campaign "$@" --shard "{}/$shards" --out "$out" || status=1; \
    '{{harness}}' campaign merge "$out" || status=1; exit $status

# Run a campaign as a Slurm array: `./justw campaign-slurm 8 DIR stress --seeds 1000` (its own options in $SBATCH_…: SBATCH_PARTITION=long)
campaign-slurm *args:
    {{or_help}} campaign-slurm "$@"

_campaign-slurm shards out *args: (_campaign_kernels args)
    mkdir -p '{{out}}'; status=0; \
    sbatch --wait --job-name aurora-campaign --array '1-{{shards}}' --requeue --open-mode append \
        --output '{{out}}/slurm-%a.txt' \
        --wrap "'{{harness}}' campaign {{args}} --shard \$SLURM_ARRAY_TASK_ID/{{shards}} --out '{{out}}'" || status=1; \
    '{{harness}}' campaign merge '{{out}}' || status=1; exit $status

# Trace a run, as JSON for ui.perfetto.dev: `./justw trace bench call_reply_cross_as`, `./justw trace --check stress --seed 7`, `./justw trace --query longest-wait`
trace *args:
    {{or_help}} trace "$@"

_trace *args: _build (_kernel "trace" "--features trace" "kernel-2")
    '{{harness}}' trace "$@"

# Trace a kernel with a planted bug; fails if the check does not find it: `./justw trace-planted lost-wake --mode icount --seed 1 --cpus 4 --messages 4000 --events 131072`
trace-planted *args:
    {{or_help}} trace-planted "$@"

_trace-planted bug *args: (_known_bug bug) _build (_quick "trace-planted-" + bug "--features trace,chaos,dump,planted-" + bug)
    shift; '{{harness}}' trace --check stress --variant 'trace-planted-{{bug}}' "$@"

# Measure what one operation costs and shares as CPUs are added, 1 to 32: table, words, target/scale/scale.svg
scale *args:
    {{or_help}} scale "$@"

_scale *args: _build
    '{{harness}}' scale "$@"

# Let hostile programs attack others, and show what that costs: `./justw hostile --cpus 4 --only notify-flood`; ends with `hostile: cpus=… stolen_max=… longest_off=… late_max=… stuck=… escapes=…`
hostile *args:
    {{or_help}} hostile "$@"

_hostile *args: _build
    '{{harness}}' hostile "$@"

# Measure seL4's operations in the way of Aurora's: `./justw peers sel4 --source DIR`, `./justw peers table`
peers *args:
    {{or_help}} peers "$@"

_peers *args: _harness
    '{{harness}}' peers "$@"

# Measure the mailbox against other queues on the cores of this machine: ranked table, target/mailbox/mailbox.svg
mailbox *args:
    {{or_help}} mailbox "$@"

_mailbox *args: _harness
    '{{harness}}' mailbox "$@"

# Run random operations on kernels with and without fastpaths, whose states must agree: `./justw diff --seeds 100`
diff *args:
    {{or_help}} diff "$@"

_diff *args: _build (_kernel "dump" "--features dump" "kernel-2") (_kernel "nofast-dump" "--no-default-features --features dump" "kernel-2")
    '{{harness}}' diff "$@"

# Judge a snapshot of the kernel's state from a run: `./justw judge target/run/fuzz-tcg-4-1/snapshot.txt`
judge *args:
    {{or_help}} judge "$@"

_judge *args: _harness
    '{{harness}}' judge "$@"

# List the systems that are described, check a description, or draw which processes may call which: `./justw systems --draw paging`
systems *args:
    {{or_help}} systems "$@"

_systems *args: _harness
    '{{harness}}' systems "$@"

# Run all tests; ends with `N passed, N failed`. `--quick` is a quick check after a change, `--only host,guest,…` selects
test *args:
    {{or_help}} test "$@"

_test *args: (_kernels_for args)
    '{{harness}}' test --just '{{just_executable()}}' "$@"

# Run the kernel tests on Bochs's processor models, from the bootable image
test-bochs *args:
    {{or_help}} test-bochs "$@"

_test-bochs *args: _build
    '{{harness}}' bochs "$@"

# Make target/aurora.iso, which boots by BIOS and GRUB, and print how to use it: `./justw iso run=bench`
iso *args:
    {{or_help}} iso "$@"

_iso *args: _build
    '{{harness}}' iso "$@"

# Print the bench's tables from a capture of a machine's serial line: `./justw decode serial.txt`
decode *args:
    {{or_help}} decode "$@"

_decode *args: _harness
    '{{harness}}' decode "$@"

# Report how large the kernel is and how its parts depend on each other; ends with `count: kernel_lines=… type_methods=… cycle_files=…`
count *args:
    {{or_help}} count "$@"

_count *args: _harness
    '{{harness}}' count "$@"

# Format all Rust code (`./justw fmt --check` only checks)
fmt *args:
    {{or_help}} fmt "$@"

_fmt *args:
    {{cargo}} fmt --all {{args}}

# Run Clippy and rustdoc over host crates, kernel and user programs; warnings are errors
lint *args:
    {{or_help}} lint "$@"

_lint: _lint_host _lint_image _lint_test_image _lint_user && _api

# The second call checks tests with a command line of their own, which `cargo test` leaves out and so does the first.
_lint_host:
    {{cargo}} clippy --all-targets -- -D warnings
    {{cargo}} clippy --test pairs --test confine -- -D warnings

_lint_image *features:
    {{build_std}} {{flags_for}}='{{kernel_flags}}' {{cargo}} clippy --release --target {{bare}} \
        --target-dir '{{target}}/kernel' {{prepend("--package ", bare_crates)}} {{features}} -- -D warnings

_lint_test_image: (_lint_image "--features" "kern-image/trace,kern-image/faults,kern-image/dump")

_lint_user:
    {{build_std}} {{flags_for}}='{{user_flags}}' {{cargo}} clippy --release --target {{bare}} \
        --target-dir '{{target}}/user' --package user-rt {{prepend("--package ", programs)}} -- -D warnings

# Make API documentation of all crates in target/doc/index.html, and the book in target/book where mdbook is installed
doc *args:
    {{or_help}} doc "$@"

_doc: _api
    echo '{{target}}/doc/index.html: the crates by layer'
    if command -v mdbook >/dev/null; then mdbook build docs --dest-dir '{{target}}/book'; \
    else echo 'no mdbook here: read the book in docs/src (cargo install mdbook makes it HTML)'; fi

# Makes the API documentation; a warning is an error. Crates of the kernel's target go into the host's directory, so that all
# of them link each other and one search finds all.
_api $RUSTDOCFLAGS="-D warnings":
    for place in kernel user; do \
        mkdir -p '{{target}}/doc' '{{target}}'/$place/{{bare}}; \
        [ -L '{{target}}'/$place/{{bare}}/doc ] || rm -rf '{{target}}'/$place/{{bare}}/doc; \
        ln -sfn ../../doc '{{target}}'/$place/{{bare}}/doc; \
    done
    {{cargo}} doc --quiet --no-deps --document-private-items --workspace \
        {{prepend("--exclude ", bare_crates + " user-rt " + programs)}}
    {{build_std}} {{flags_for}}='{{kernel_flags}}' {{cargo}} doc --quiet --no-deps --document-private-items --release \
        --target {{bare}} --target-dir '{{target}}/kernel' {{prepend("--package ", bare_crates)}}
    {{build_std}} {{flags_for}}='{{user_flags}}' {{cargo}} doc --quiet --no-deps --document-private-items --release \
        --target {{bare}} --target-dir '{{target}}/user' --package user-rt {{prepend("--package ", programs)}}
    "${RUSTDOC:-rustdoc}" docs/api/index.md --output '{{target}}/doc' --markdown-no-toc --html-in-header docs/api/head.html

# Write the book's generated pages again: the system call reference and the rules of authority, from abi
reference *args:
    {{or_help}} reference "$@"

_reference: _harness
    '{{harness}}' reference > docs/src/syscalls.md
    '{{harness}}' rules > docs/src/authority.md

# Compile the schemas of `protocols/` again; needs capnp, Debian's package capnproto
schemas *args:
    {{or_help}} schemas "$@"

_schemas:
    cd protocols/schema && capnp compile -o- *.capnp > ../schema.request
    touch protocols/schema.request
    AURORA_SCHEMA_SUM=write {{cargo}} build --package protocols

# Write the recipes' help texts again: docs/help
help-texts *args:
    {{or_help}} help-texts "$@"

_help-texts: _harness
    '{{harness}}' help-texts docs/help

# Put the committed figures into README and book; `--check` only compares
figures *args:
    {{or_help}} figures "$@"

_figures *args: _harness
    '{{harness}}' figures "$@"

# Debug the kernel with gdb commands that know it: `./justw gdb run=test`, `./justw gdb --stress --seed 7 --stop-at 5000`, `./justw gdb --record run=test`; or find the event to stop at: `./justw gdb --bisect --seed 7`
gdb *args:
    {{or_help}} gdb "$@"

_gdb *args: (_campaign_kernels args)
    '{{harness}}' gdb "$@"

# Builds the kernels for seeded runs; those with small limits if the arguments ask for them.
_seeded args: (_limits args) _build (_kernel "chaos" "--features chaos,dump") (_kernel "dump" "--features dump" "kernel-2")
    case " $1 " in *" --limits small "* | *" --limits=small "* | *-small" "*) \
        '{{just_executable()}}' --justfile '{{justfile()}}' _quick dump-small "--features dump,small-limits"; \
        '{{just_executable()}}' --justfile '{{justfile()}}' _kernel chaos-small "--features chaos,dump,small-limits";; \
    esac

# Refuses an unknown bug before anything is built for it.
_known_bug bug:
    case ' {{bugs}} ' in *" $1 "*) ;; *) echo "there is no planted bug $1; there are: {{bugs}}" >&2; exit 2;; esac

# Refuses unknown limits before anything is built for them.
_limits args:
    case " $1 " in \
        *" --limits normal "* | *" --limits small "* | *" --limits=normal "* | *" --limits=small "*) ;; \
        *" --limits"*) echo '--limits takes normal or small' >&2; exit 2;; \
    esac

# Builds the kernels for campaigns, and the one with a planted bug or with small limits that the arguments name.
_campaign_kernels args: _build (_kernel "chaos" "--features chaos,dump") \
    (_kernel "dump" "--features dump" "kernel-2") (_kernel "nofast-dump" "--no-default-features --features dump" "kernel-2")
    for word in $1; do \
        case $word in planted-* | --variant=planted-*) bug=${word#--variant=}; \
            '{{just_executable()}}' --justfile '{{justfile()}}' _quick "$bug" "--features chaos,dump,$bug";; \
        chaos-small | --variant=chaos-small) \
            '{{just_executable()}}' --justfile '{{justfile()}}' _kernel chaos-small "--features chaos,dump,small-limits";; \
        esac; \
    done

# Builds the kernels for the tests that the arguments select.
_kernels_for args:
    case " $1 " in \
        *" --quick "*) '{{just_executable()}}' --justfile '{{justfile()}}' _build; \
            '{{just_executable()}}' --justfile '{{justfile()}}' _kernel nofast --no-default-features;; \
        *) '{{just_executable()}}' --justfile '{{justfile()}}' _build_for_tests;; \
    esac

# Builds everything for the tests. One thread links a kernel, so two are built at a time.
[parallel]
_build_for_tests: _kernels_for_tests_1 _kernels_for_tests_2

_kernels_for_tests_1: _build (_kernel "nofast" "--no-default-features") (_kernel "chaos" "--features chaos,dump")

_kernels_for_tests_2: (_kernel "dump" "--features dump" "kernel-2") (_kernel "trace" "--features trace" "kernel-2") \
    (_kernel "nofast-dump" "--no-default-features --features dump" "kernel-2") \
    (_quick "faults" "--features faults" "kernel-2") (_quick "dump-small" "--features dump,small-limits" "kernel-2") \
    (_quick "trace-planted-lost-wake" "--features trace,chaos,dump,planted-lost-wake" "kernel-2") \
    (_quick "planted-missing-flush" "--features chaos,dump,planted-missing-flush" "kernel-2") \
    (_quick "planted-unchecked-copy" "--features chaos,dump,planted-unchecked-copy" "kernel-2")

# The harness, its TCG plugin, and the library that it preloads into QEMU.
_harness:
    {{cargo}} build --package bench-harness --package aurora-plugin --package aurora-gather
    mkdir -p '{{boot}}'
    for library in plugin gather; do \
        built="{{target}}/debug/libaurora_$library.so"; kept="{{boot}}/libaurora_$library.so"; \
        cmp -s "$built" "$kept" || { cp "$built" "$kept.new"; mv "$kept.new" "$kept"; }; \
    done

# Builds a variant on which nothing is measured.
_quick variant features dir="kernel": (_kernel variant features + ",quick" dir "quick")

# Builds one variant of the kernel, kept as target/boot/aurora or aurora-<variant>. One at a time in each directory.
_kernel variant features dir="kernel" profile="release":
    {{build_std}} {{flags_for}}='{{kernel_flags}}' {{cargo}} build --profile {{profile}} --target {{bare}} \
        --target-dir '{{target}}/{{dir}}' --package kern-image {{features}}
    mkdir -p '{{boot}}'
    built='{{target}}/{{dir}}/{{bare}}/{{profile}}/aurora'; \
    kept='{{boot}}/aurora{{if variant == "" { "" } else { "-" + variant } }}'; \
    cmp -s "$built" "$kept" || cp "$built" "$kept"

# The user programs, packed in the boot archive.
_programs: _harness
    {{build_std}} {{flags_for}}='{{user_flags}}' {{cargo}} build --release --target {{bare}} \
        --target-dir '{{target}}/user' {{prepend("--package ", programs)}}
    '{{harness}}' pack --programs '{{target}}/user/{{bare}}/release' {{programs}}
