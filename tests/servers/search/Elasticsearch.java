// Nodes of one Elasticsearch cluster in one JVM, for tests: Elasticsearch DIRECTORY NAME,HTTP-PORT,TRANSPORT-PORT...
// Lines on standard input: `close N`, `start N`, from 0. It says `ready`, `closed N` and `started N`, and ends with its
// standard input.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.transport.Netty4Plugin;

public class Elasticsearch {
    static class Member extends Node {
        Member(Settings settings, String name) {
            super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> name), List.of(Netty4Plugin.class), false);
        }
    }

    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]);
        List<String[]> members = Stream.of(args).skip(1).map(it -> it.split(",")).collect(Collectors.toList());
        String seeds = members.stream().map(it -> "127.0.0.1:" + it[2]).collect(Collectors.joining(","));
        String names = members.stream().map(it -> it[0]).collect(Collectors.joining(","));
        Node[] nodes = new Node[members.size()];
        List<Thread> starts = new ArrayList<>();
        for (int at = 0; at < nodes.length; at++) {
            int mine = at;
            Thread start = new Thread(() -> nodes[mine] = start(home, members.get(mine), seeds, names));
            start.start();
            starts.add(start);
        }
        for (Thread start : starts) {
            start.join();
        }
        for (Node node : nodes) {
            if (node == null) {
                System.exit(1);
            }
        }
        System.out.println("ready");
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String order; (order = orders.readLine()) != null;) {
            String[] words = order.split(" ");
            int at = Integer.parseInt(words[1]);
            if (words[0].equals("close")) {
                nodes[at].close();
                System.out.println("closed " + words[1]);
            } else {
                nodes[at] = start(home, members.get(at), seeds, names);
                System.out.println("started " + words[1]);
            }
        }
        Runtime.getRuntime().halt(0);
    }

    static Node start(Path home, String[] member, String seeds, String names) {
        String name = member[0];
        Settings settings = Settings.builder()
            .put("cluster.name", "farewell-tests").put("node.name", name)
            .put("path.home", home.toString()).put("path.data", home.resolve(name).toString()).put("path.logs", home.resolve("logs").toString())
            .put("network.host", "127.0.0.1").put("http.port", member[1]).put("transport.port", member[2])
            .put("transport.type", "netty4").put("http.type", "netty4")
            .put("discovery.seed_hosts", seeds).put("cluster.initial_master_nodes", names)
            .put("cluster.routing.allocation.disk.threshold_enabled", "false")
            .build();
        try {
            return new Member(settings, name).start();
        } catch (Exception error) {
            error.printStackTrace();
            return null;
        }
    }
}
