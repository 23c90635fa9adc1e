#!/usr/bin/env bash
# RoboMME in an environment of its own, drawn by the CPU:  scripts/set_up_robomme.sh FOLDER
# Then:  svms-gr00t evaluate rollout --benchmark robomme --simulator FOLDER/python --model-path RUN
#
# FOLDER gets about 7 GB: env (a venv with the versions below), source (RoboMME's repository), mesa (Debian's newer
# Vulkan driver for CPUs, unpacked beside the system's, which is left alone), and python, which starts env's interpreter
# with that driver. What is there is used again. With a GPU and its own driver: MESA=no.
#
# Takes PYTHON (default python3.11), MESA (default yes; Debian 12 alone), SOURCE (a clone that git can read) and MANISKILL:
# "release" (default, 3.0.1; run here) or "fork", the one that RoboMME pins and judges with. Only the fork has a wrist camera
# on the robot of PatternLock and RouteStick: numbers over all 16 tasks need it.
# Versions: RoboMME's motion planner (mplib) needs numpy 1.26; ManiSkill asks for gymnasium 0.29.1; Debian 12's own Mesa
# 22.3 lacks VK_KHR_external_semaphore_fd, which SAPIEN wants.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1" && folder=$(cd "$1" && pwd)
source=${SOURCE:-https://github.com/RoboMME/robomme_benchmark}
case ${MANISKILL:-release} in
  release) maniskill=(mani-skill==3.0.1 sapien==3.0.3) ;;
  fork) maniskill=("mani-skill @ git+https://github.com/YinpeiDai/ManiSkill@07be6fbc66350ddca200abfb0a11b692f078f7fd" sapien==3.0.2) ;;
  *) echo "MANISKILL is $MANISKILL; it may be release or fork" >&2; exit 2 ;;
esac
commit=598e3b4c580990d34681651b1b0ec5a6f4c26524

if [ ! -e "$folder/env/ready" ]; then
  "${PYTHON:-python3.11}" -m venv --clear "$folder/env"
  # RoboMME's own pins are left out (--no-deps below): they name the fork and one version of PyTorch.
  "$folder/env/bin/python" -m pip install --quiet --no-cache-dir \
    "${maniskill[@]}" numpy==1.26.4 gymnasium==0.29.1 torch 'setuptools<81'
  touch "$folder/env/ready"
fi

if [ ! -e "$folder/source/ready" ]; then
  rm -rf "$folder/source"
  git clone --quiet "$source" "$folder/source"
  git -C "$folder/source" checkout --quiet "$commit"
  "$folder/env/bin/python" -m pip install --quiet --no-cache-dir hatchling
  "$folder/env/bin/python" -m pip install --quiet --no-cache-dir --no-deps --no-build-isolation "$folder/source"
  touch "$folder/source/ready"
fi

mesa() { # the driver and what it needs, from the mirror that this machine uses; nothing is installed
  local here=$folder/mesa mirror key=/usr/share/keyrings/debian-archive-keyring.gpg suite
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
  [ -n "$mirror" ] || { echo "no Debian 12 (bookworm) here: name your own driver by VK_ICD_FILENAMES, MESA=no" >&2; exit 2; }
  rm -rf "$here" && mkdir -p "$here"/{lists,archives}/partial
  for suite in bookworm bookworm-backports; do echo "deb [signed-by=$key] $mirror $suite main"; done >"$here/sources.list"
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$here/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$here/lists" -o "Dir::Cache::archives=$here/archives" -o Dir::Cache::pkgcache=
    -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1)
  "${apt[@]}" update
  "${apt[@]}" --yes --download-only --target-release bookworm-backports install mesa-vulkan-drivers
  for package in "$here"/archives/*.deb; do dpkg-deb --extract "$package" "$here"; done
  rm -r "$here/lists" "$here/archives"
  local library
  library=$(find "$here" -name libvulkan_lvp.so)
  printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.4.305"}}\n' "$library" \
    >"$here/driver.json"
}

start="exec \"$folder/env/bin/python\" \"\$@\""
if [ "${MESA:-yes}" = yes ]; then
  [ -e "$folder/mesa/driver.json" ] || mesa
  libraries=$(dirname "$(find "$folder/mesa" -name libvulkan_lvp.so)")
  start="export VK_ICD_FILENAMES=\"$folder/mesa/driver.json\" LD_LIBRARY_PATH=\"$libraries\" SAPIEN_RENDER_DEVICE=cpu
$start"
fi
printf '#!/bin/sh\n%s\n' "$start" >"$folder/python"
chmod +x "$folder/python"
"$folder/python" -c 'from robomme.env_record_wrapper import BenchmarkEnvBuilder as B; print(*B.get_task_list())'
