import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.management.ManagementFactory;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.NetworkInterface;
import java.net.StandardSocketOptions;
import java.net.UnixDomainSocketAddress;
import java.net.StandardProtocolFamily;
import java.nio.ByteBuffer;
import java.nio.channels.AsynchronousFileChannel;
import java.nio.channels.DatagramChannel;
import java.nio.channels.FileChannel;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.StandardWatchEventKinds;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.SecureRandom;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;

/** What libraries beside a FHIR server ask of the JDK, each by itself: prints its name and ok, or what went wrong. */
public class JdkCalls {
  static final Path DIR = Path.of(System.getProperty("java.io.tmpdir"), "jdk-calls");

  static void run(String name, Callable<Object> work) {
    try {
      work.call();
      System.out.println(name + " ok");
    } catch (Throwable e) {
      System.out.println(name + " " + e);
    }
  }

  static Object files() throws IOException {
    Path a = Files.writeString(DIR.resolve("a"), "text");
    Files.copy(a, DIR.resolve("b"), StandardCopyOption.COPY_ATTRIBUTES);
    Files.move(DIR.resolve("b"), DIR.resolve("c"), StandardCopyOption.ATOMIC_MOVE);
    Files.setPosixFilePermissions(a, PosixFilePermissions.fromString("rw-------"));
    Files.createTempDirectory(DIR, "t");
    Files.getFileStore(a).getUsableSpace();
    try (var walk = Files.walk(DIR)) {
      walk.forEach(path -> path.toFile().canExecute());
    }
    return null;
  }

  static Object times() throws IOException {
    return Files.setLastModifiedTime(DIR.resolve("a"), FileTime.fromMillis(1_000_000));
  }

  static Object links() throws IOException {
    Files.createSymbolicLink(DIR.resolve("s"), DIR.resolve("a")).toRealPath();
    return Files.createLink(DIR.resolve("l"), DIR.resolve("a"));
  }

  static Object owner() throws IOException {
    return Files.setOwner(DIR.resolve("a"), Files.getOwner(DIR.resolve("a")));
  }

  static Object mapped() throws IOException {
    try (FileChannel file = FileChannel.open(DIR.resolve("m"), StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      var map = file.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
      map.put(0, (byte) 1);
      map.force();
      map.load();
      file.tryLock().release();
      file.transferTo(0, 1 << 20, FileChannel.open(DIR.resolve("n"), StandardOpenOption.CREATE, StandardOpenOption.WRITE));
      file.truncate(10).force(true);
    }
    try (RandomAccessFile file = new RandomAccessFile(DIR.resolve("r").toFile(), "rwd")) {
      file.setLength(1 << 16);
      file.write(new byte[100]);
    }
    try (FileChannel dir = FileChannel.open(DIR)) {
      dir.force(true);
    }
    return null;
  }

  static Object asynchronous() throws Exception {
    try (var file = AsynchronousFileChannel.open(DIR.resolve("o"), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
      return file.write(ByteBuffer.wrap(new byte[10]), 0).get();
    }
  }

  static Object watch() throws Exception {
    try (var watch = FileSystems.getDefault().newWatchService()) {
      DIR.register(watch, StandardWatchEventKinds.ENTRY_CREATE);
      Files.createFile(DIR.resolve("w"));
      if (watch.poll(5, TimeUnit.SECONDS) == null) throw new IOException("no event");
    }
    return null;
  }

  static Object process() throws Exception {
    Process child = new ProcessBuilder(System.getProperty("java.home") + "/bin/java", "--version").redirectErrorStream(true).start();
    child.getInputStream().readAllBytes();
    if (child.waitFor() != 0) throw new IOException("exit code " + child.exitValue());
    return null;
  }

  static Object sockets() throws Exception {
    try (var server = ServerSocketChannel.open().bind(new InetSocketAddress("::", 0)); var selector = Selector.open()) {
      server.setOption(StandardSocketOptions.SO_REUSEPORT, true);
      try (var client = SocketChannel.open(new InetSocketAddress("127.0.0.1", server.socket().getLocalPort()))) {
        client.setOption(StandardSocketOptions.TCP_NODELAY, true);
        client.setOption(StandardSocketOptions.SO_KEEPALIVE, true);
        var other = server.accept();
        other.configureBlocking(false).register(selector, 1);
        client.write(new ByteBuffer[] {ByteBuffer.wrap(new byte[10]), ByteBuffer.wrap(new byte[10])});
        selector.select(1000);
        other.read(new ByteBuffer[] {ByteBuffer.allocate(5), ByteBuffer.allocate(50)});
        client.shutdownOutput();
      }
    }
    Path path = DIR.resolve("socket");
    try (var server = ServerSocketChannel.open(StandardProtocolFamily.UNIX).bind(UnixDomainSocketAddress.of(path));
        var client = SocketChannel.open(UnixDomainSocketAddress.of(path))) {
      server.accept().close();
    }
    try (var udp = DatagramChannel.open().bind(new InetSocketAddress("127.0.0.1", 0))) {
      udp.send(ByteBuffer.wrap(new byte[10]), udp.getLocalAddress());
      udp.receive(ByteBuffer.allocate(10));
    }
    return null;
  }

  static Object interfaces() throws Exception {
    for (NetworkInterface each : NetworkInterface.networkInterfaces().toList()) {
      each.getHardwareAddress();
      each.getMTU();
      each.isUp();
    }
    return InetAddress.getLocalHost();
  }

  static Object names(String name, String address) throws Exception {
    InetAddress found = InetAddress.getByName(name);
    if (!found.getHostAddress().equals(address)) throw new IOException(found.toString());
    return null;
  }

  static Object system() throws Exception {
    ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
    ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    ManagementFactory.getThreadMXBean().getThreadCpuTime(Thread.currentThread().getId());
    ProcessHandle.current().info().command();
    ProcessHandle.allProcesses().count();
    SecureRandom.getInstance("NativePRNG").nextBytes(new byte[10]);
    SecureRandom.getInstanceStrong().nextBytes(new byte[10]);
    SSLContext.getDefault().createSSLEngine();
    var pool = Executors.newScheduledThreadPool(4);
    pool.schedule(() -> Thread.currentThread().setPriority(3), 10, TimeUnit.MILLISECONDS).get();
    pool.shutdownNow();
    return null;
  }

  public static void main(String[] arguments) throws IOException {
    Files.createDirectories(DIR);
    run("files", JdkCalls::files);
    run("times", JdkCalls::times);
    run("links", JdkCalls::links);
    run("owner", JdkCalls::owner);
    run("mapped", JdkCalls::mapped);
    run("asynchronous", JdkCalls::asynchronous);
    run("watch", JdkCalls::watch);
    run("process", JdkCalls::process);
    run("sockets", JdkCalls::sockets);
    run("interfaces", JdkCalls::interfaces);
    if (arguments.length == 2) run("names", () -> names(arguments[0], arguments[1]));
    run("system", JdkCalls::system);
    System.out.println("end");
  }
}
