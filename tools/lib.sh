# Shell functions that quickstart, check and the other tools share. Source it from bash with pipefail set.
# shellcheck shell=bash disable=SC2046

# Where downloads and Bazel's disk cache are kept between runs.
weir_cache() {
  echo "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/weir"
}

# Tells the user what is going on. Standard error, so that scripts can print results.
say() {
  printf '%s\n' "$*" >&2
}

# Ends the script with one sentence on what is wrong and what to do.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command as root.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# True where progress may be drawn over the same line again and again.
is_terminal() {
  [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]
}

# Ends the script unless this system can install Weir's packages.
require_supported_system() {
  local id=unknown version=unknown name='this system'
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-unknown}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-unknown}")
    name=$(. /etc/os-release && echo "${PRETTY_NAME:-$ID}")
  fi
  [ "$id $version" = "debian 12" ] || die "Weir builds on Debian 12 with its packages of Bazel 4.2," \
    "gRPC 1.51 and others; this is $name. Use a Debian 12 machine, container or chroot."
  [ "$(uname -m)" = x86_64 ] || die "Weir runs on x86_64; this machine is $(uname -m)."
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    die "installing Debian packages needs root, and there is no sudo here: run this as root."
}

# require_disk FOLDER MEGABYTES: ends the script where there is less room than that.
require_disk() {
  local folder=$1 wanted=$2 free
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  free=$(df --output=avail -BM "$folder" | tail -n 1 | tr -dc 0-9)
  [ "$free" -ge "$wanted" ] ||
    die "$folder has $free MB free, and about $wanted MB are needed: make room and run this again."
}

# The packages of tools/debian-packages that any of the given purposes (build, test, quickstart) needs.
packages_for() {
  awk -v purposes="$*" '
    BEGIN { count = split(purposes, purpose, " ") }
    /^#/ || NF == 0 { next }
    { for (i = 1; i <= count; i++) if (index("," $2 ",", "," purpose[i] ",")) { print $1; next } }
  ' "$(dirname "${BASH_SOURCE[0]}")/debian-packages"
}

# Follows apt's machine-readable progress: one moving line in a terminal, a line per tenth elsewhere.
show_apt_progress() {
  local kind percent description shown=-1 phase tenth
  while IFS=: read -r kind _ percent description; do
    case $kind in
      dlstatus) phase=Downloading ;;
      pmstatus) phase=Installing ;;
      *) continue ;;
    esac
    percent=${percent%%.*}
    if is_terminal; then
      printf '\r\033[K  %-11s %3s %%  %.50s' "$phase" "$percent" "$description" >&2
      continue
    fi
    tenth="$phase $((percent / 10))"
    [ "$tenth" = "$shown" ] || say "  $phase $((percent / 10 * 10)) %"
    shown=$tenth
  done
  if is_terminal; then printf '\r\033[K' >&2; fi
}

# install_packages PACKAGE...: installs those that are missing.
install_packages() {
  local missing=() package log
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  log=$(mktemp)
  as_root apt-get update -q >"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    die "Debian's package lists cannot be fetched: is there a network, and is /etc/apt set up?"
  }
  # apt reports its progress on descriptor 3, which is made the pipe here since sudo would close it; apt's
  # own words go to the log.
  # shellcheck disable=SC2016
  as_root sh -c 'exec "$@" 3>&1 1>&2' sh env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 "${missing[@]}" \
    2>"$log" </dev/null | show_apt_progress || {
    tail -n 15 "$log" >&2
    die "apt-get could not install the packages; its last words are above."
  }
  rm -f "$log"
  # promtool, which a test uses, comes with a daemon that nobody asked for.
  if [[ " ${missing[*]} " = *" prometheus "* ]] && [ -d /run/systemd/system ]; then
    as_root systemctl disable --now --quiet prometheus.service
  fi
}

# Sets `bazel_flags`: what quickstart and check build with. Results are kept between clones, apart for
# each set of library and compiler versions, since Bazel does not see a change of the system's headers.
set_bazel_flags() {
  local cache versions
  versions=$(dpkg-query -W -f '${Package} ${Version}\n' $(packages_for build) gcc-12 |
    sha256sum | cut -c1-16)
  cache=$(weir_cache)/bazel
  mkdir -p "$cache/$versions"
  # Bazel never removes anything from this cache: begin anew where it has grown large.
  if [ "$(du -sm "$cache" | cut -f1)" -gt 8000 ]; then
    rm -rf "$cache"
    mkdir -p "$cache/$versions"
  fi
  bazel_flags=(--disk_cache="$cache/$versions")
  if ! is_terminal; then bazel_flags+=(--curses=no --show_progress_rate_limit=15); fi
}
