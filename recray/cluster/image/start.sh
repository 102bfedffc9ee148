#!/bin/bash
# What a pod does from its first second: SSH, its own end at its time, and Ray where it is a worker.
# The head's Ray is started by `ray up` over SSH, with a key that no pod's variables hold.
set -u
cd ~ || exit 1
umask 077
mkdir -p ~/.ssh ~/.ray /run/sshd
touch ~/.bashrc
[ -z "${PUBLIC_KEY:-}" ] || echo "$PUBLIC_KEY" >> ~/.ssh/authorized_keys
[ -f ~/.ssh/host_key ] || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/host_key

# A session over SSH has the container's variables, but those that are secret.
for name in $(compgen -e); do
    [[ ${name^^} =~ KEY|TOKEN|SECRET|PASS|CREDENTIAL|WEBHOOK|NOTIFY|DSN|_PAT$|^(PWD|OLDPWD|SHLVL|HOME|_)$ ]] ||
        printf 'export %s=%q\n' "$name" "${!name}"
done > ~/.recray_environment
printf '[ ! -f ~/.profile ] || . ~/.profile\n. ~/.recray_environment\n' > ~/.bash_profile
"$(command -v sshd || echo /usr/sbin/sshd)" -h ~/.ssh/host_key -o UsePAM=no -o PidFile=none \
    -o AuthorizedKeysFile="$HOME/.ssh/authorized_keys" -o StrictModes=no

python -m recray.cluster.guard --detach

role="${RECRAY_NODE:-}"
[ "$role" != member ] || { [ "${NODE_RANK:-0}" = 0 ] && role=head || role=worker; }
if [ "$role" = worker ]; then
    export RAY_CLOUD_INSTANCE_ID="$RUNPOD_POD_ID" RAY_enable_autoscaler_v2=1 # by which the autoscaler knows it
    until [ -s ~/.ray/auth_token ]; do sleep 1; done
    while options=$(python -m recray.cluster.node); do
        ray start --block $options
        [ "$RECRAY_NODE" = member ] || break # an Instant Cluster ends as one
        sleep 5
    done
    python -m recray.cluster.guard --now # its head is gone: there is nothing to work for
fi
exec sleep infinity
