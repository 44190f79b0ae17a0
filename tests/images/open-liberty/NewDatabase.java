import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;

/** Makes the empty database that the entry point copies: NewDatabase DIRECTORY. */
public class NewDatabase {
  public static void main(String[] arguments) throws SQLException {
    try (Connection connection = DriverManager.getConnection("jdbc:derby:" + arguments[0] + ";create=true")) {
      connection.createStatement().executeUpdate(
          "CREATE TABLE resources (type VARCHAR(40) NOT NULL, id VARCHAR(64) NOT NULL, version INT NOT NULL,"
              + " family VARCHAR(200), body CLOB, PRIMARY KEY (type, id, version))");
      connection.createStatement().executeUpdate("CREATE INDEX families ON resources (type, family)");
    }
    try {
      DriverManager.getConnection("jdbc:derby:;shutdown=true");
    } catch (SQLException expected) {
      System.out.println(expected.getMessage());
    }
  }
}
