# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced by what makes Debian systems for tests.

# The Debian mirror that this machine uses itself.
mirror() {
	apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
		awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 == "main" { print $4; exit }'
}

# apt may know a proxy that the environment doesn't.
use_proxy_of_apt() {
	local proxy
	proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
	[[ -z $proxy || $proxy == DIRECT ]] || export http_proxy=${http_proxy:-$proxy}
}
