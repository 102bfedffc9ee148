"""GPUs of RunPod as a Ray cluster: made by one file and one command, and gone again whatever happens.

Upwards: ``api`` (the service), ``plan`` (what a cluster may be and cost), ``journal`` (what was made, kept on
this machine), ``pods`` (made, found again, ended), ``ssh``; then ``runpod`` (Ray's node provider), ``guard``
(the ceiling and the time to live, held on the pods), ``clusters`` (up, status, down, reap), ``instant`` and
``work`` (a command's whole way). A pod is known by its name and its variables: nothing that is made needs
this machine to be found.
"""
