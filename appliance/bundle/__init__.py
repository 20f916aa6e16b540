"""One signed file that a box without internet is installed from.

What it is: what goes in (``gather``), the list of it (``listing``), its signature (``signing``), its parts list
(``sbom``), the archive out (``write``) and in (``read``). Nothing is unpacked before the signature and every name, size
and hash are right.
What it refuses to be: a package manager. Debian's packages are listed, not carried: a site has its mirror or its media.
"""

from __future__ import annotations


class BundleError(Exception):
    """The bundle cannot be made or trusted; the text is one sentence that says what to do."""
