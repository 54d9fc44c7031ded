# shellcheck shell=bash
# Debian packages: tools for this machine, and kernels and busybox for the hosts and guests of any architecture.
#
# Both are asked of the mirror that this machine's own apt uses, with lists and archives in our cache, so that the
# machine's apt lists, sources and preferences stay as they are.

readonly kernel_suite=trixie

# debian_sources: one line "URI SUITE SIGNED-BY" for each Debian suite that this machine's apt uses.
debian_sources() {
    # apt leaves a field that it does not have as it was written, hence the substitution for Signed-By.
    # shellcheck disable=SC2016
    apt-get "$@" indextargets --format '$(REPO_URI) $(RELEASE) $(SIGNED_BY)' \
        'Created-By: Packages' 'Origin: Debian' 'Component: main' 2>/dev/null |
        sed 's/\$(SIGNED_BY)//' | sort -u
}

# write_sources FILE SUITE…: an apt source list for SUITEs; "own" stands for those that the machine uses already.
write_sources() {
    local file=$1 suite sources uri release signed main_uri='' main_signed=''
    shift
    sources=$(debian_sources)
    if [ -z "$sources" ]; then
        # A fresh container has no lists; the origin of a source is only known from its lists.
        local apt_options
        apt_root machine
        logged apt-get "${apt_options[@]}" update
        sources=$(debian_sources "${apt_options[@]}")
    fi
    while read -r uri release signed; do
        case $release in
            *-security | *-updates | *-backports | *-proposed*) ;;
            *) main_uri=$uri main_signed=$signed ;;
        esac
    done <<<"$sources"
    [ -n "$main_uri" ] || die "no Debian mirror in this machine's apt sources"
    for suite; do
        if [ "$suite" = own ]; then
            while read -r uri release signed; do
                printf 'deb %s%s %s main\n' "${signed:+[signed-by=$signed] }" "$uri" "$release"
            done <<<"$sources"
        else
            printf 'deb %s%s %s main\n' "${main_signed:+[signed-by=$main_signed] }" "$main_uri" "$suite"
        fi
    done >"$file"
}

# apt_root NAME [ARCH]: sets `apt_options` to an apt root of our own; without ARCH it works on this machine's packages.
apt_root() {
    local dir=$cache/apt/$1
    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    apt_options=(-o APT::Keep-Downloaded-Packages=false -o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    [ "$1" = machine ] || apt_options+=(-o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::PreferencesParts=/dev/null)
    [ -t 2 ] || apt_options+=(-q)
    [ $# -eq 1 ] || apt_options+=(-o "APT::Architecture=$2" -o "APT::Architectures=$2" -o Dir::State::status=/dev/null)
}

is_debian() {
    # shellcheck source=/dev/null
    [ -r /etc/os-release ] && [ "$(. /etc/os-release && echo "$ID")" = debian ] && command -v apt-get >/dev/null
}

# install_packages PACKAGE…: on this machine, as root. QEMU comes from backports where the release's own is too old.
install_packages() {
    local apt_options sudo=() codename suites=(own) release=() package
    is_debian || die "please install what Debian calls: $*"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "not root and no sudo: please install: $*"
        sudo=(sudo)
    fi
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    for package; do
        if [ "$codename" = bookworm ] && [[ $package = qemu-system-* ]]; then
            suites=(own bookworm-backports)
            # What QEMU depends on must come from there as well, which PACKAGE/SUITE would not do.
            release=(-t bookworm-backports)
        fi
    done
    say "installing $*"
    apt_root install
    write_sources "$cache/apt/install/sources.list" "${suites[@]}"
    logged apt-get "${apt_options[@]}" update
    logged "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get "${apt_options[@]}" install "${release[@]}" -y --no-install-recommends "$@"
}

# fetch_firmware DIR: unpacks U-Boot for QEMU's boards, one package for all architectures, into DIR, all or nothing.
# Under `set -e`, with a directory `work` to do it in.
fetch_firmware() {
    local dir=$1 apt_options
    is_debian || die "U-Boot comes from Debian's archive: run this on Debian once, and copy $dir from there"
    say "downloading U-Boot"
    apt_root firmware amd64
    write_sources "$cache/apt/firmware/sources.list" "$kernel_suite"
    logged apt-get "${apt_options[@]}" update
    (cd "$work" && logged apt-get "${apt_options[@]}" download u-boot-qemu)
    dpkg -x "$work"/u-boot-qemu_*.deb "$work/firmware"
    mkdir -p "${dir%/*}"
    mv -T "$work/firmware" "$dir"
}

# fetch_passt DIR: unpacks passt and the C library that it needs, of this architecture, into DIR, all or nothing. Under
# `set -e`, with a directory `work` to do it in.
fetch_passt() {
    local dir=$1 name=debian-$debian_arch apt_options package
    is_debian || die "passt for $debian_arch comes from Debian's archive: run this on Debian once, and copy $dir from there"
    say "downloading passt for $debian_arch"
    apt_root "$name" "$debian_arch"
    write_sources "$cache/apt/$name/sources.list" "$kernel_suite"
    logged apt-get "${apt_options[@]}" update
    mkdir "$work/passt"
    (cd "$work/passt" && logged apt-get "${apt_options[@]}" download passt libc6)
    for package in "$work"/passt/*.deb; do dpkg -x "$package" "$work/passt/tree"; done
    mkdir -p "${dir%/*}"
    mv -T "$work/passt/tree" "$dir"
    rm -r "$work/passt"
}

# needed_libraries TREE DIR FILE: copies the libraries that FILE needs, out of an unpacked TREE, into DIR.
needed_libraries() {
    local tree=$1 dir=$2 file=$3 name found
    while read -r name; do
        [ ! -e "$dir/$name" ] || continue
        found=$(find "$tree/usr" -name "$name" | head -n 1)
        [ -n "$found" ] || { say "no $name, which $file needs" && return 1; }
        cp -L "$found" "$dir/$name"
        needed_libraries "$tree" "$dir" "$dir/$name"
    done < <(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p')
}

# fetch_backends DIR: what others have as vhost-user backends, of this architecture, into DIR, with the libraries that
# they need in DIR/lib, all or nothing. Under `set -e`, with a directory `work` to do it in.
fetch_backends() {
    local dir=$1 name=debian-$debian_arch new=$work/backends/new tree=$work/backends/tree apt_options package program
    is_debian || die "virtiofsd for $debian_arch comes from Debian's archive: run this on Debian once, and copy $dir from there"
    say "downloading virtiofsd and qemu-storage-daemon for $debian_arch"
    apt_root "$name" "$debian_arch"
    write_sources "$cache/apt/$name/sources.list" "$kernel_suite"
    logged apt-get "${apt_options[@]}" update
    mkdir -p "$new/lib" "$work/backends/partial"
    # Nothing is there already in such an apt root: it is all that they need.
    logged apt-get "${apt_options[@]}" -o "Dir::Cache::Archives=$work/backends" -o APT::Keep-Downloaded-Packages=true \
        -o Debug::NoLocking=true install --download-only --no-install-recommends -y virtiofsd qemu-utils
    for package in "$work"/backends/*.deb; do dpkg -x "$package" "$tree"; done
    for program in libexec/virtiofsd bin/qemu-storage-daemon; do
        cp "$tree/usr/$program" "$new"
        needed_libraries "$tree" "$new/lib" "$tree/usr/$program"
    done
    mkdir -p "${dir%/*}"
    mv -T "$new" "$dir"
    rm -r "$work/backends"
}

# fetch_debian DIR: unpacks this architecture's kernel and busybox into DIR, all or nothing.
# Under `set -e`, with a directory `work` to do it in.
fetch_debian() {
    local dir=$1 name=debian-$debian_arch apt_options kernel package
    is_debian || die "the $debian_arch kernel comes from Debian's archive: run this on Debian once, and copy $dir from there"
    say "downloading Debian's $kernel_package and busybox for $debian_arch"
    apt_root "$name" "$debian_arch"
    write_sources "$cache/apt/$name/sources.list" "$kernel_suite"
    logged apt-get "${apt_options[@]}" update
    # The package named in the row only depends on the one that holds the kernel of the day.
    kernel=$(apt-cache "${apt_options[@]}" depends "$kernel_package" | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p')
    (cd "$work" && logged apt-get "${apt_options[@]}" download "${kernel%%$'\n'*}" busybox-static)
    for package in "$work"/*.deb; do dpkg -x "$package" "$work/debian"; done
    mkdir -p "${dir%/*}"
    mv -T "$work/debian" "$dir"
}
