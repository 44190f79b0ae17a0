# shellcheck shell=bash
# Sourced by the build scripts NAME/build, which tests/images/build runs with:
#   OUT   where the archives go    WORK  an empty directory    CACHE  what may be kept between builds (downloads)
set -euo pipefail
: "${OUT:?is set by tests/images/build}" "${WORK:?}" "${CACHE:?}"
HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
export HERE BUILDAH_ISOLATION=chroot TMPDIR=$WORK
# a fixed time and no progress bars: the same sources give the same image id
export SOURCE_DATE_EPOCH=1700000000

step() { printf '  [%3ds] %s\n' "$SECONDS" "$*" >&2; }

buildah_() { buildah --root "$WORK/storage" --runroot "$WORK/runroot" --storage-driver vfs "$@"; }

# image_from_root DIR NAME TAG [BUILDAH-CONFIG-OPTION...]: one layer from DIR, saved as $OUT/NAME.tar
image_from_root() {
  local root=$1 name=$2 tag=$3 container
  shift 3
  step "writing image $tag"
  container=$(buildah_ from scratch)
  # through tar: it keeps modes, owners, hard links and file capabilities
  tar -C "$root" --xattrs --xattrs-include='*' -cf - . | tar -C "$(buildah_ mount "$container")" --xattrs --xattrs-include='*' -xpf -
  buildah_ umount "$container" >/dev/null
  buildah_ config --label io.buildah.version- "$@" "$container"
  buildah_ commit -q --disable-compression "$container" "$tag" >/dev/null
  buildah_ rm "$container" >/dev/null
  buildah_ push -q --disable-compression "$tag" "oci-archive:$OUT/$name.tar:$tag"
  buildah_ rmi -f "$tag" >/dev/null
}

# rootfs DIR PACKAGE,PACKAGE...: Debian's essential packages and these, without documentation
rootfs() {
  step "fetching Debian packages: $2"
  # shellcheck disable=SC2016  # $1 is for the hook's shell
  mmdebstrap --quiet --variant=essential --include="$2" --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --essential-hook='mkdir -p "$1/usr/share/man/man1"' \
    bookworm "$1" >&2
}

# maven_libraries POM DIR: the jar files that the POM asks for, with what they need
maven_libraries() {
  local log=$WORK/maven.log
  step "fetching from Maven Central (about $3 MB the first time)"
  # no --quiet: the count of downloads is the progress that people see
  mvn -B -f "$1" -Dmaven.repo.local="$CACHE/m2" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DoutputDirectory="$2" -DincludeScope=runtime 2>&1 | tee "$log" |
    awk '/Downloaded/ { if (++n % 50 == 0) { printf "         %d files fetched\n", n; fflush() } }' >&2 ||
    { grep -m5 ERROR "$log" >&2; return 1; }
}

# java_root DIR: a root file system that holds a Java run-time made by jlink below /opt/jre, and no shell
java_root() {
  local root=$1 file
  step "making a Java run-time"
  mkdir -p "$root"/{app,data,dev,etc,opt,proc,run,sys} && mkdir -m 1777 "$root/tmp"
  jlink --strip-debug --no-man-pages --no-header-files --output "$root/opt/jre" --add-modules \
    java.se,jdk.unsupported,jdk.zipfs,jdk.management,jdk.jfr,jdk.crypto.ec,jdk.attach,jdk.jcmd,jdk.naming.dns,jdk.charsets
  "$root/opt/jre/bin/java" -Xshare:dump >/dev/null 2>&1
  find "$root/opt/jre" -type f \( -perm /111 -o -name '*.so' \) -exec env LD_LIBRARY_PATH="$root/opt/jre/lib:$root/opt/jre/lib/server" ldd {} + 2>/dev/null |
    awk '/=> \// { print $3 } /^\t\/.*ld-/ { print $1 }' | grep -v "^$root" | sort -u |
    while read -r file; do mkdir -p "$root$(dirname "$file")" && cp -L "$file" "$root$file"; done
  printf 'root:x:0:0::/:/sbin/nologin\nhapi:x:65532:65532::/data:/sbin/nologin\n' >"$root/etc/passwd"
  printf 'root:x:0:\nhapi:x:65532:\n' >"$root/etc/group"
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
  chown 65532:65532 "$root/data"
}
