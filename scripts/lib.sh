# shellcheck shell=bash
# Shared by the scripts in this folder; source it, do not run it.
#
# Where things are kept, all outside the work tree:
#   TIDEGATE_CACHE  what is downloaded, a folder per version   (default: ~/.cache/tidegate)
#   TIDEGATE_STATE  what runs, a folder per named set           (default: $TIDEGATE_CACHE/run)

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
STATE_ROOT=${TIDEGATE_STATE:-$CACHE/run}
# Made absolute, as some commands run elsewhere.
CACHE=$(realpath -m "$CACHE")
STATE_ROOT=$(realpath -m "$STATE_ROOT")
# Read by the scripts that source this file.
export ROOT CACHE STATE_ROOT

# Progress goes to stderr, so that stdout holds only lines that a shell or a test can read.
say() { printf '%s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
# For mistakes in the command line.
usage_error() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

check_name() {
    [[ $1 =~ ^[a-z0-9][a-z0-9-]{0,40}$ ]] ||
        usage_error "name '$1' is not allowed: use lower-case letters, digits and dashes"
}

check_port() {
    if ! [[ $2 =~ ^[1-9][0-9]{3,4}$ ]] || (($2 > 65520)); then
        usage_error "$1 '$2' is not allowed: give a port from 1000 to 65520, or 'auto'"
    fi
}

# --- system packages ---------------------------------------------------------------------------

java_major() {
    local line
    line=$(java -version 2>&1 | head -n 1) || true
    if [[ $line =~ version\ \"([0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi
}

# The folder of the newest PostgreSQL server programs, or nothing.
postgres_bin() {
    local dir
    dir=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    if [[ -x $dir/initdb && -x $dir/postgres ]]; then echo "$dir"; fi
}

# Looks for what a package gives, not for its name: that also holds where packages are called otherwise.
package_present() {
    case $1 in
    build-essential) command -v cc && command -v c++ && command -v make ;;
    pkg-config) command -v pkg-config ;;
    libssl-dev) pkg-config --exists openssl ;;
    zlib1g-dev) pkg-config --exists zlib ;;
    openjdk-17-jre-headless) (($(java_major) >= 17)) ;;
    maven) command -v mvn ;;
    postgresql) [[ -n $(postgres_bin) ]] ;;
    nodejs) command -v node ;;
    golang-go) command -v go ;;
    chromium-driver) command -v chromedriver ;;
    # Not on every user's path.
    haproxy) command -v haproxy || [[ -x /usr/sbin/haproxy ]] ;;
    # The module is always there, but on Debian not what it needs to install pip.
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

# need_packages PACKAGE...: installs what is missing where that is allowed (root, or sudo that asks for no
# password), and otherwise says what to install and ends.
need_packages() {
    local missing=() as_root=() package log
    for package in "$@"; do package_present "$package" || missing+=("$package"); done
    if ((${#missing[@]} == 0)); then return 0; fi

    local command="apt-get install -y --no-install-recommends ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        die "missing: ${missing[*]} (names as on Debian); install them with this system's package manager"
    elif ((EUID != 0)); then
        if ! sudo -n true 2>/dev/null; then die "missing packages; run: sudo $command"; fi
        as_root=(sudo -n)
    fi

    mkdir -p "$CACHE"
    log=$CACHE/apt.log
    say "installing ${missing[*]}"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=120)
    if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" >"$log" 2>&1 </dev/null; then
        # The usual cause is a list of packages that is missing or old.
        if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } \
            >>"$log" 2>&1 </dev/null; then
            tail -n 15 "$log" >&2
            die "could not install packages (log: $log); run: $command"
        fi
    fi
    hash -r
    for package in "${missing[@]}"; do
        package_present "$package" || die "$package is installed but what it should give was not found"
    done
}

need_build_packages() { need_packages build-essential pkg-config libssl-dev zlib1g-dev; }

# --- Python tools ------------------------------------------------------------------------------

# python_tool NAME VERSION [PIP-ARGUMENT...]: a program from PyPI in an environment of its own, which it prints.
# Only wheels, so that nothing of it runs while it is installed.
python_tool() {
    local name=$1 version=$2 home=$CACHE/tools/$1-$2
    shift 2
    if [[ ! -f $home/complete ]]; then
        need_packages python3-venv
        rm -rf "$home"
        mkdir -p "$home"
        say "fetching $name $version"
        if ! { python3 -m venv "$home" &&
            "$home/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: "$@"; } \
            >"$CACHE/pip-$name.log" 2>&1 </dev/null; then
            tail -n 15 "$CACHE/pip-$name.log" >&2
            die "could not install $name $version (log: $CACHE/pip-$name.log)"
        fi
        touch "$home/complete"
    fi
    echo "$home"
}

# --- Rust --------------------------------------------------------------------------------------

# Checks that the pinned toolchain is there. Never starts a download: rustup would do so by itself for a
# missing toolchain, which is a surprise in the middle of a test run.
need_rust() {
    local wanted
    wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
    if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then PATH=$HOME/.cargo/bin:$PATH; fi
    command -v cargo >/dev/null ||
        die "cargo not found: install Rust $wanted with rustup (the installer on Rust's home page), then run this again"
    if command -v rustup >/dev/null; then
        rustup toolchain list 2>/dev/null | grep -q "^$wanted" ||
            die "Rust $wanted is not installed: run 'rustup toolchain install $wanted --component rustfmt,clippy'"
    else
        cargo --version | grep -q "^cargo $wanted" ||
            say "note: $(cargo --version) instead of the pinned $wanted"
    fi
}

target_dir() {
    if [[ -n ${CARGO_TARGET_DIR:-} ]]; then
        # Cargo reads it relative to where it runs; the scripts run cargo in the root.
        case $CARGO_TARGET_DIR in
        /*) echo "$CARGO_TARGET_DIR" ;;
        *) echo "$ROOT/$CARGO_TARGET_DIR" ;;
        esac
    else
        (cd "$ROOT" && cargo metadata --format-version 1 --no-deps --offline 2>/dev/null) |
            sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p' | grep . || echo "$ROOT/target"
    fi
}

# --- other languages ---------------------------------------------------------------------------
# For the example workers and clients and their tests. What is installed or compiled is kept in the cache, by version.

# Prints the Python of a virtual environment that has the packages of the examples in Python and of their tests.
python_of_examples() {
    need_packages python3 python3-venv
    local wanted=("$ROOT"/examples/{workers/python-kafka,clients/python}/requirements.txt "$ROOT/tests/webhooks/requirements.txt") home
    home=$CACHE/tools/python-examples-$({ python3 --version && cat "${wanted[@]}"; } | sha256sum | cut -c 1-12)
    mkdir -p "$CACHE/tools"
    # Two at once must not write the same folder; the mark is written last.
    exec 7>"$CACHE/.python-examples.lock"
    flock -w 300 7 || die "could not lock $CACHE/.python-examples.lock"
    if [[ ! -f $home/complete ]]; then
        say "installing $(cat "${wanted[@]}" | tr '\n' ' ')for the examples in Python"
        rm -rf "$home"
        python3 -m venv "$home" >&2 || die "could not make a Python environment in $home"
        "$home/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${wanted[@]/#/--requirement=}" >&2 ||
            die "could not install the packages of ${wanted[*]}"
        touch "$home/complete"
    fi
    exec 7>&-
    echo "$home/bin/python"
}

# node_packages FOLDER: installs what the lock file of a folder names, and prints where, for NODE_PATH. Nothing of it runs
# while it is installed, and the folder itself is left as it is.
node_packages() {
    need_packages nodejs npm
    local home
    home=$CACHE/tools/node-$({ node --version && cat "$1/package-lock.json"; } | sha256sum | cut -c 1-12)
    mkdir -p "$CACHE/tools"
    exec 7>"$CACHE/.node.lock"
    flock -w 300 7 || die "could not lock $CACHE/.node.lock"
    if [[ ! -f $home/complete ]]; then
        say "installing the packages of $1"
        rm -rf "$home"
        mkdir "$home"
        cp "$1/package.json" "$1/package-lock.json" "$home"
        npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund >&2 || die "could not install the packages of $1"
        touch "$home/complete"
    fi
    exec 7>&-
    echo "$home/node_modules"
}

# build_go_worker OUTPUT: compiles the http worker in Go. It has no module: the standard library is all that it needs.
build_go_worker() {
    need_packages golang-go
    GOCACHE=$CACHE/tools/go-build GOTOOLCHAIN=local GOPROXY=off CGO_ENABLED=0 \
        go build -o "$1" "$ROOT/examples/workers/http-go/worker.go" || die "the worker in Go does not compile"
}

# --- processes ---------------------------------------------------------------------------------
# A process is remembered as "pid start-time boot-id": a number alone may by now belong to somebody else.

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# process_stat PID: its state letter and its start time, nothing when there is none.
process_stat() {
    local text
    text=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # The program's name may hold blanks; what follows its closing bracket does not.
    local fields
    read -ra fields <<<"${text##*) }"
    echo "${fields[0]} ${fields[19]}"
}

# remember FILE PID
remember() {
    local state start
    read -r state start <<<"$(process_stat "$2")" || true
    [[ -n $state ]] || return 1
    echo "$2 $start $(boot_id)" >"$1"
}

# live_pid FILE: prints the pid when the remembered process still runs.
live_pid() {
    local pid start boot state now
    [[ -f $1 ]] || return 1
    read -r pid start boot <"$1" || return 1
    [[ $boot == "$(boot_id)" ]] || return 1
    read -r state now <<<"$(process_stat "$pid")" || return 1
    # A zombie is over, also where nobody collects it.
    [[ $state != Z && $state != X && $now == "$start" ]] || return 1
    echo "$pid"
}

# process_state PIDFILE: one word, running, paused or down.
process_state() {
    local pid state
    if ! pid=$(live_pid "$1"); then
        echo down
        return
    fi
    read -r state _ <<<"$(process_stat "$pid")"
    if [[ $state == T ]]; then echo paused; else echo running; fi
}

# wait_for SECONDS COMMAND...: polls until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS >= end)); then return 1; fi
        sleep 0.1
    done
}

is_gone() { ! live_pid "$1" >/dev/null; }

# start_daemon PIDFILE LOG COMMAND...: a process that outlives this script and keeps none of its files open.
start_daemon() {
    local pidfile=$1 log=$2
    shift 2
    setsid nohup "$@" </dev/null >>"$log" 2>&1 9>&- &
    remember "$pidfile" $!
}

# signal SIGNAL PIDFILE: nothing happens when the process is gone.
signal() {
    local pid
    if pid=$(live_pid "$2"); then kill "-$1" "$pid" 2>/dev/null || true; fi
}

# stop_process PIDFILE SECONDS: asks, then forces.
stop_process() {
    signal CONT "$1"
    signal TERM "$1"
    if ! wait_for "$2" is_gone "$1"; then
        say "did not end within $2 s, killing it: $1"
        signal KILL "$1"
        wait_for 10 is_gone "$1" || die "process of $1 does not end"
    fi
    rm -f "$1"
}

# --- ports -------------------------------------------------------------------------------------

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port that somebody else holds would otherwise show as a long log.
need_free_port() {
    if port_open "$1"; then die "port $1 is in use by something else: end it, or give --port-base auto"; fi
}

# reserve_ports FILE COUNT: finds COUNT neighbouring free ports and writes the first one to FILE, which holds
# them until it is removed. Below the range that the system gives to outgoing connections, so that a server
# which is down for a while finds its port free when it comes back.
reserve_ports() {
    local file=$1 count=$2 try base port held=$CACHE/ports first=20000 blocks=1200
    mkdir -p "$held"
    exec 8>"$CACHE/.ports.lock"
    flock -w 30 8 || die "could not lock $CACHE/.ports.lock"
    for ((try = 0; try < blocks; try++)); do
        base=$((first + 10 * (RANDOM % blocks)))
        if [[ -f $held/$base && -f $(<"$held/$base") ]]; then continue; fi
        for ((port = base; port < base + count; port++)); do
            if port_open "$port"; then continue 2; fi
        done
        echo "$base" >"$file"
        echo "$file" >"$held/$base"
        exec 8>&-
        return 0
    done
    die "no $count neighbouring free ports found from $first on"
}

# Joins what the servers of one set wrote into one file that a shell can read.
join_env() {
    local dir=$1 file
    for file in "$dir"/kafka/env "$dir"/postgres/env "$dir"/jaeger/env; do
        if [[ -f $file ]]; then cat "$file"; fi
    done >"$dir/env.new"
    mv "$dir/env.new" "$dir/env"
    [[ -s $dir/env ]] || rm -f "$dir/env"
}

# --- runs that start servers of their own ------------------------------------------------------
# RUN is the folder of such a run, which TIDEGATE_STATE names too, and VERDICT how it went.

# What a run started and left behind carries its folder in its environment, which nothing else does.
end_leftovers() {
    local proc pid
    for proc in /proc/[0-9]*; do
        pid=${proc#/proc/}
        if grep -qzxF "TIDEGATE_STATE=$RUN" "$proc/environ" 2>/dev/null; then
            say "left behind, killed: $pid $(tr '\0' ' ' <"$proc/cmdline" 2>/dev/null | cut -c 1-100)"
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
}

end_servers() {
    local set keep=()
    [[ -d $RUN ]] || return 0
    if [[ $VERDICT == failed ]]; then keep=(--keep-logs); fi
    for set in "$RUN"/*/; do
        [[ -d $set ]] || continue
        set=$(basename "$set")
        if [[ -d $RUN/$set/kafka ]]; then scripts/kafka down --name "$set" "${keep[@]}" || true; fi
        if [[ -d $RUN/$set/postgres ]]; then scripts/postgres down --name "$set" "${keep[@]}" || true; fi
        if [[ -d $RUN/$set/jaeger ]]; then scripts/jaeger down --name "$set" "${keep[@]}" || true; fi
    done
    if [[ $VERDICT == failed ]]; then
        say "logs of the servers: $RUN"
    else
        rm -rf "$RUN"
    fi
}

# --- phases ------------------------------------------------------------------------------------

PHASE_NAMES=()
PHASE_SECONDS=()
PHASE_RESULTS=()
# What each phase printed is kept until `end_phases`, for `phase_table` to repeat what failed.
PHASE_LOGS=
# Lines of output that are repeated of a failed test, or of a phase that failed otherwise.
REPEATED_LINES=40

# phase NAME COMMAND...: runs it, remembers how long it took and whether it failed, and goes on either way.
phase() {
    local name=$1 begin=$SECONDS result=ok log
    shift
    [[ -n $PHASE_LOGS ]] || PHASE_LOGS=$(mktemp -d)
    log=$PHASE_LOGS/${#PHASE_NAMES[@]}
    # Not a pipeline: the command may set variables of this shell, and a process that it leaves behind must not be
    # waited for. What copies the output outlives an interrupt, as traps print too.
    {
        printf '\n== %s\n' "$name"
        "$@" || result=FAILED
        printf '== %s: %s after %d s\n' "$name" "$result" $((SECONDS - begin))
    } > >(
        trap '' INT TERM
        exec tee "$log"
    ) 2>&1
    wait_for 10 grep -qsF "== $name: $result after " "$log" || true
    PHASE_NAMES+=("$name")
    PHASE_SECONDS+=($((SECONDS - begin)))
    PHASE_RESULTS+=("$result")
    [[ $result == ok ]]
}

end_phases() { [[ -z $PHASE_LOGS ]] || rm -rf "$PHASE_LOGS"; }

skip_phase() {
    PHASE_NAMES+=("$1")
    PHASE_SECONDS+=(0)
    PHASE_RESULTS+=("skipped: $2")
}

# failed_tests LOG: of the output of test programs, those that failed: the last lines of each failed test, then a line
# `==> failed: TEST in PROGRAM` for each. Nothing when no program failed.
failed_tests() {
    awk -v keep="$REPEATED_LINES" '
        function tail_of(lines, count, i) {
            for (i = count > keep ? count - keep : 0; i < count; i++) print lines[i % keep]
        }
        function fails(test) {
            if (!(test in known)) { known[test] = 1; tests[failures++] = test }
        }
        function end_program(i, j, count) {
            if (failed) {
                if (!failures) {
                    printf "\n---- %s: its last lines\n", program
                    tail_of(all, total)
                    names = names "==> failed: " program "\n"
                }
                for (i = 0; i < failures; i++) {
                    count = printed[tests[i]]
                    printf "\n---- %s in %s\n", tests[i], program
                    for (j = count > keep ? count - keep : 0; j < count; j++) print output[tests[i], j % keep]
                    names = names "==> failed: " tests[i] " in " program "\n"
                }
            }
            failed = failures = total = listed = 0
            section = ""
            split("", known); split("", printed); split("", output); split("", all)
        }
        /^ +(Running|Doc-tests) / { end_program(); program = $0; sub(/^ +(Running )?/, "", program); next }
        { all[total++ % keep] = $0 }
        /^---- .* stdout ----$/ { section = $0; sub(/^---- /, "", section); sub(/ stdout ----$/, "", section); listed = 0; next }
        /^(failures|successes):$/ { section = ""; listed = ($0 == "failures:"); next }
        # Where the output of another process comes between, this list alone has the name.
        listed && /^    [^ ]+$/ { fails($1); next }
        /^test .* \.\.\. FAILED$/ { sub(/^test /, ""); sub(/ - should panic \.\.\. FAILED$| \.\.\. FAILED$/, ""); fails($0); failed = 1 }
        /^test result: FAILED/ || /^     FAILED: / { failed = 1; section = ""; listed = 0 }
        # A trace of calls would take the place of what the test said.
        /^stack backtrace:$/ { in_trace = 1 }
        in_trace && !/^(stack backtrace:$| +[0-9]+: | +at )/ { in_trace = 0 }
        section != "" && !in_trace { output[section, printed[section]++ % keep] = $0 }
        END { end_program(); if (names != "") printf "\n%s", names }
    ' "$1"
}

# What failed, from what the phases printed, and last the names: the end of a long log is enough to find it.
repeat_failures() {
    local i log found names=
    printf '\n== what failed\n'
    for i in "${!PHASE_NAMES[@]}"; do
        [[ ${PHASE_RESULTS[i]} == FAILED ]] || continue
        log=$PHASE_LOGS/$i
        if grep -qxsF "== what failed" "$log"; then
            # A script that has phases too, and has said it already.
            found=$(awk '/^== what failed$/ { text = ""; next } { text = text $0 "\n" } END { printf "%s", text }' "$log")
        else
            found=$(failed_tests "$log")
        fi
        if [[ -z $found ]]; then
            found=$(tail -n "$REPEATED_LINES" "$log")$'\n'"==> failed: ${PHASE_NAMES[i]}"
        fi
        printf '\n-- %s\n%s\n' "${PHASE_NAMES[i]}" "$(grep -v '^==> failed: ' <<<"$found")"
        names+=$(grep '^==> failed: ' <<<"$found" || true)$'\n'
    done
    printf '\n%s' "$names"
}

# Prints the table, and again what failed; fails when a phase failed.
phase_table() {
    local i failed=0 total=0
    printf '\n%-44s %7s  %s\n' phase seconds result
    for i in "${!PHASE_NAMES[@]}"; do
        printf '%-44s %7d  %s\n' "${PHASE_NAMES[i]}" "${PHASE_SECONDS[i]}" "${PHASE_RESULTS[i]}"
        total=$((total + PHASE_SECONDS[i]))
        if [[ ${PHASE_RESULTS[i]} == FAILED ]]; then failed=$((failed + 1)); fi
    done
    printf '%-44s %7d  ' total "$total"
    if ((failed)); then
        echo "$failed failed"
        repeat_failures
        return 1
    fi
    echo passed
}
